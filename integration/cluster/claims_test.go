//go:build integration

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
)

// quickReuse lets Spark take claims for new executors after seconds, and gives each executor another claim, with dependencies.
func quickReuse() map[string]string {
	const deps = "spark.kubernetes.executor.volumes.persistentVolumeClaim.dependencies."
	return map[string]string{
		"spark.kubernetes.allocation.executor.timeout": "20s",
		"spark.kubernetes.executor.apiPollingInterval": "5s",

		deps + "options.claimName": "dependencies-SPARK_EXECUTOR_ID",
		deps + "mount.path":        dependencies,
		deps + "mount.readOnly":    "false",
	}
}

// makeDependencies makes the claims with dependencies of the first executors.
func (s *scene) makeDependencies(namespace string) {
	s.t.Helper()
	must(s.t, shared.MakeNamespace(s.ctx, namespace))
	for id := range 8 {
		must(s.t, shared.Do(s.ctx, http.MethodPost, "/api/v1/namespaces/"+namespace+"/persistentvolumeclaims", object{
			"metadata": object{"name": fmt.Sprintf("dependencies-%d", id+1)},
			"spec": object{
				"accessModes": []string{"ReadWriteOnce"}, "storageClassName": DiskClass,
				"resources": object{"requests": object{"storage": "100Mi"}},
			},
		}, nil))
	}
	s.t.Cleanup(func() {
		_, _ = shared.Kubectl(context.Background(), "delete", "namespace", namespace, "--wait=false")
	})
}

// look makes a claim look like those that Spark has made for the application's executors.
func (s *scene) look(j *Job, claim string) {
	s.t.Helper()
	_, err := shared.Kubectl(s.ctx, "-n", j.Namespace, "label", "pvc", claim, "spark-app-selector="+j.App)
	must(s.t, err)
}

// claimAt is the claim that the application's only executor on node-a has at a path.
func (s *scene) claimAt(j *Job, path string) string {
	s.t.Helper()
	all := slices.Collect(maps.Values(s.mounted(j, "node-a", path)))
	if len(all) != 1 {
		s.t.Fatalf("claims of %s at %s: %q", j.Name, path, all)
	}
	return all[0]
}

// mounted are the claims that executors on a node have at a path, by their pods.
func (s *scene) mounted(j *Job, node, path string) map[string]string {
	s.t.Helper()
	out, err := shared.Kubectl(s.ctx, "-n", j.Namespace, "get", "pods", "-l", "spark-role=executor,spark-app-selector="+j.App, "-o", "json")
	must(s.t, err)
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct {
				NodeName string
				Volumes  []struct {
					Name                  string
					PersistentVolumeClaim struct{ ClaimName string }
				}
				Containers []struct {
					VolumeMounts []struct{ Name, MountPath string }
				}
			}
		}
	}
	must(s.t, json.Unmarshal([]byte(out), &list))
	claims := map[string]string{}
	for _, p := range list.Items {
		if p.Spec.NodeName != node {
			continue
		}
		for _, m := range p.Spec.Containers[0].VolumeMounts {
			for _, v := range p.Spec.Volumes {
				if v.Name == m.Name && m.MountPath == path && v.PersistentVolumeClaim.ClaimName != "" {
					claims[p.Metadata.Name] = v.PersistentVolumeClaim.ClaimName
				}
			}
		}
	}
	return claims
}

const localDir, dependencies = "/data/spark-x/executor-x", "/dependencies"

// claim reads one.
func (s *scene) claim(j *Job, name string) Claim {
	s.t.Helper()
	all, err := shared.Claims(s.ctx, j.Namespace)
	must(s.t, err)
	i := slices.IndexFunc(all, func(c Claim) bool { return c.Name == name })
	if i < 0 {
		s.t.Fatalf("there is no claim %s: %+v", name, all)
	}
	return all[i]
}

func untouched(t *testing.T, c Claim) {
	t.Helper()
	for key := range maps.Keys(c.Annotations) {
		if strings.HasPrefix(key, "lifeboat.dev/") {
			t.Errorf("claim %s: annotation %s", c.Name, key)
		}
	}
	for key := range maps.Keys(c.Labels) {
		if strings.HasPrefix(key, "lifeboat.dev/") {
			t.Errorf("claim %s: label %s", c.Name, key)
		}
	}
	if c.Labels["spark-app-selector"] == "" {
		t.Errorf("claim %s has lost its label: %v", c.Name, c.Labels)
	}
}

// TestNoticeWithClaims: outputs are copied, and the claims marked. Spark gives a claim whose disk can move to the next executor. One
// whose volume can't leave the node is hidden, so that no executor waits for it, and shown again when the machine comes back with its
// disks. Nothing is computed again, and the claims of dependencies in the same pods are left alone.
func TestNoticeWithClaims(t *testing.T) {
	s := newScene(t, AgentOptions{})
	must(t, shared.Volumes(s.ctx))
	stays := quickReuse()
	stays["spark.kubernetes.driver.waitToReusePersistentVolumeClaim"] = "false"
	s.makeDependencies("moving")
	s.makeDependencies("staying")
	jobs := s.jobs(
		JobOptions{Name: "moving", Namespace: "moving", Executors: 2, ClaimClass: DiskClass, Conf: quickReuse()},
		JobOptions{Name: "staying", Namespace: "staying", Executors: 2, ClaimClass: LocalClass, Conf: stays},
	)
	var local, deps []string
	for _, j := range jobs {
		local = append(local, s.claimAt(j, localDir))
		deps = append(deps, s.claimAt(j, dependencies))
		s.look(j, deps[len(deps)-1])
	}
	begin := time.Now()
	shared.Metadata("node-a").Announce(2 * time.Minute)
	rep := s.rescued()
	for i, j := range jobs {
		c := s.claim(j, local[i])
		if c.Labels["lifeboat.dev/state"] != "complete" || c.Labels["lifeboat.dev/executor"] == "" || c.Annotations["lifeboat.dev/report"] != rep.ID ||
			c.Annotations["lifeboat.dev/marked-by"] != "node-a" || c.Annotations["lifeboat.dev/outputs"] == "" || !slices.Equal(c.Owners, []string{"Pod/" + j.Name}) {
			t.Errorf("claim of %s: %+v", j.Name, c)
		}
		t.Logf("%s: %v %v", c.Name, c.Labels, c.Annotations)
		shown, hidden := c.Labels["spark-app-selector"], c.Annotations["lifeboat.dev/hidden-selector"]
		if want := [...]string{j.App, ""}; i == 0 && (shown != want[0] || hidden != want[1]) || i == 1 && (shown != want[1] || hidden != want[0]) {
			t.Errorf("claim of %s: shown as %q, hidden as %q", j.Name, shown, hidden)
		}
		untouched(t, s.claim(j, deps[i]))
		unharmed(t, j)
	}
	must(t, jobs[1].WaitExecutors(s.ctx, 2))
	t.Logf("the next executor has another claim %v after the notice", time.Since(begin).Round(100*time.Millisecond))
	must(t, jobs[0].WaitExecutors(s.ctx, 2))
	t.Logf("the next executor has the claim of the last one %v after the notice", time.Since(begin).Round(100*time.Millisecond))
	if now := s.mounted(jobs[0], "node-b", localDir); !slices.Contains(slices.Collect(maps.Values(now)), local[0]) {
		t.Errorf("claims of %s: %v, not %s", jobs[0].Name, now, local[0])
	}
	must(t, shared.Node("node-a").PowerOff())
	for _, j := range jobs {
		unharmed(t, j)
	}
	must(t, shared.Node("node-a").PowerOn(s.ctx))
	must(t, lab.Until(s.ctx, "the claim is shown again", func(context.Context) (bool, error) {
		c := s.claim(jobs[1], local[1])
		return c.Labels["spark-app-selector"] == jobs[1].App && c.Annotations["lifeboat.dev/hidden-selector"] == "", nil
	}))
}
