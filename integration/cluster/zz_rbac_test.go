//go:build integration

package cluster

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lifeboat/lifeboat/integration/chart"
)

// spared are permits that the lane may leave unused, each with its reason. It is empty as long as the lane uses all.
var spared = map[string]string{}

// TestZZRolesAreMinimal compares what the chart allows with all that the agents and the survivors of all tests have asked the
// API server for. It runs last: Go takes the files by their names. With -run it can't say what is never used.
func TestZZRolesAreMinimal(t *testing.T) {
	for account, rules := range permits(t, chart.Release{Namespace: AgentNamespace, Name: agentRelease}) {
		asked, refused := askedBy(t, "system:serviceaccount:"+AgentNamespace+":"+account)
		unused, missing := compare(rules, asked)
		t.Logf("%s: %d requests of %d kinds, %d permits", account, sum(asked), len(asked), len(rules))
		if len(missing) > 0 {
			t.Errorf("%s has asked for what the chart does not allow: %v, and was refused %v", account, missing, refused)
		} else if len(refused) > 0 { // Helm makes and removes roles beside the pods that need them
			t.Logf("%s was refused while its role was not there: %v", account, refused)
		}
		if account != agentRelease && asked[Permit{Resource: "pods", Verb: "delete"}] == 0 {
			continue // a survivor that had nothing to do
		}
		for _, p := range unused {
			switch reason := spared[account+" "+p]; {
			case reason != "":
				t.Logf("%s: %s was not used: %s", account, p, reason)
			case wholeLane():
				t.Errorf("%s may %s, and no test has needed it", account, p)
			}
		}
	}
}

// wholeLane says that no test was left out.
func wholeLane() bool {
	return flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
}

// permits are the rules of each service account in the chart, with everything switched on.
func permits(t *testing.T, release chart.Release) map[string][]Permit {
	t.Helper()
	release.Values = map[string]any{
		"survivor": map[string]any{"enabled": true}, "config": map[string]any{"survivor": map[string]any{"nodes": "pool=spark"}},
	}
	helm, err := chart.New(t.Context(), os.Stderr)
	must(t, err)
	manifest, err := helm.Manifests(t.Context(), release)
	must(t, err)
	list, err := chart.Objects(manifest)
	must(t, err)
	roles := map[string][]Permit{}
	for _, o := range list {
		if o["kind"] == "ClusterRole" || o["kind"] == "Role" {
			roles[nameOf(o)] = append(roles[nameOf(o)], rulesOf(o)...)
		}
	}
	accounts := map[string][]Permit{}
	for _, o := range list {
		if o["kind"] == "ClusterRoleBinding" || o["kind"] == "RoleBinding" {
			account := o["subjects"].([]any)[0].(map[string]any)["name"].(string)
			accounts[account] = append(accounts[account], roles[o["roleRef"].(map[string]any)["name"].(string)]...)
		}
	}
	if len(accounts[agentRelease]) == 0 {
		t.Fatalf("the chart gives the agent nothing: %v", accounts)
	}
	for account, rules := range accounts {
		slices.SortFunc(rules, func(a, b Permit) int { return strings.Compare(a.String(), b.String()) })
		accounts[account] = slices.Compact(rules)
	}
	return accounts
}

func nameOf(o map[string]any) string { return o["metadata"].(map[string]any)["name"].(string) }

func rulesOf(role map[string]any) (all []Permit) {
	for _, r := range role["rules"].([]any) {
		rule := r.(map[string]any)
		for _, group := range rule["apiGroups"].([]any) {
			for _, resource := range rule["resources"].([]any) {
				for _, verb := range rule["verbs"].([]any) {
					all = append(all, Permit{group.(string), resource.(string), verb.(string)})
				}
			}
		}
	}
	return all
}

// askedBy counts the requests of a user, and names those that no rule allowed at that time.
func askedBy(t *testing.T, user string) (asked map[Permit]int, refused []string) {
	t.Helper()
	asked = map[Permit]int{}
	must(t, shared.EachRequest(func(r Request) {
		if r.User != user {
			return
		}
		asked[r.Permit]++
		if r.Forbidden && !slices.Contains(refused, r.URI) {
			refused = append(refused, r.URI)
		}
	}))
	return asked, refused
}

func sum(asked map[Permit]int) (n int) {
	for _, times := range asked {
		n += times
	}
	return n
}

// TestZZCompare: a permit too many and one too few are both seen, and a page that is no object is one too few.
func TestZZCompare(t *testing.T) {
	log := filepath.Join(t.TempDir(), "audit.log")
	must(t, os.WriteFile(log, []byte(`{"verb":"patch","user":{"username":"a"},"requestURI":"/api/v1/nodes/n","objectRef":{"resource":"nodes","name":"n"},"responseStatus":{"code":200},"annotations":{"authorization.k8s.io/decision":"allow"}}
{"verb":"patch","user":{"username":"a"},"requestURI":"/api/v1/namespaces/x/pods/p/status","objectRef":{"resource":"pods","subresource":"status"},"responseStatus":{"code":403},"annotations":{"authorization.k8s.io/decision":"forbid"}}
{"verb":"get","user":{"username":"a"},"requestURI":"/version","responseStatus":{"code":200}}
{"verb":"get","user":{"username":"a"},"objectRef":{"apiGroup":"apps","resource":"dae`), 0o600))
	asked, forbidden := map[Permit]int{}, 0
	must(t, readLog(log, func(r Request) {
		asked[r.Permit]++
		if r.Forbidden {
			forbidden++
		}
	}))
	unused, missing := compare([]Permit{{"", "nodes", "patch"}, {"", "nodes", "get"}}, asked)
	if !slices.Equal(unused, []string{"nodes get"}) || !slices.Equal(missing, []string{" get", "pods/status patch"}) || forbidden != 1 {
		t.Errorf("unused %v, missing %v, %d forbidden", unused, missing, forbidden)
	}
}
