package config

import (
	"errors"
	"reflect"
	"time"
)

// Ways in which a replacement's agent makes the outputs of an old volume count; see Volumes.Adopt.
const (
	AdoptLink   = "link"   // in place, by hard links beside the replacement's own files
	AdoptUpload = "upload" // through the executors' block managers, as in a rescue
	AdoptOff    = "off"    // Spark's own recovery only
)

// Kubernetes says what the agent may do at the API server. What it watches there is in Providers.Kube; without that watch none
// of this is done.
type Kubernetes struct {
	Cordon     bool          `yaml:"cordon" doc:"Cordon and taint this node when all of it is rescued, so that nothing new starts on it. Taken back when the machine turns out to stay. false: only mark it, so that other nodes send nothing here."`
	DeletePods bool          `yaml:"deletePods" doc:"End executors by deleting their pods, which Spark does not count as a failure of the application. false: by a signal."`
	Grace      time.Duration `yaml:"grace" doc:"Grace period of that deletion. The executor is also signalled at once." min:"1s" max:"5m"`
	Events     bool          `yaml:"events" doc:"Write Events on the executor's pod, the driver's pod and the node, one for each phase of a rescue."`
	Volumes    Volumes       `yaml:"volumes"`
}

// Volumes says what is done with the claims that are mounted at an executor's local dirs. Others are never touched.
type Volumes struct {
	Mark  bool   `yaml:"mark" doc:"Write on a claim of an executor's local dir which map outputs it holds, so that its next executor can use them."`
	Hide  bool   `yaml:"hide" doc:"Hide a claim from Spark whose volume can't leave a node that goes, so that no executor waits for it. Not where spark.kubernetes.driver.waitToReusePersistentVolumeClaim is on."`
	Adopt string `yaml:"adopt" doc:"How outputs on a claim that an executor of this node has taken over are made to count: by hard links in place, by upload to executors, or not." oneof:"link|upload|off"`
}

// survivorKeys is the key of Survivor.
const survivorKeys = "survivor"

// Survivor is read by the survivor only: the process off the spot nodes that acts for a node that died without a word. Agents may
// share its file, and run whatever Check says of it.
type Survivor struct {
	Nodes        string        `yaml:"nodes" doc:"Label selector of the nodes that it looks after, as karpenter.sh/capacity-type=spot. \"\": it refuses to start."`
	After        time.Duration `yaml:"after" doc:"How long a node must have been not ready, with its lease expired, before anything is done." min:"1s" max:"1h"`
	OnNotReady   bool          `yaml:"onNotReady" doc:"Act on that alone, where neither the cloud nor the node's own last word says that the machine is gone. A node that only lost its network may then lose its executors."`
	DeletePods   bool          `yaml:"deletePods" doc:"Delete the executors' pods of a dead node."`
	FailPods     bool          `yaml:"failPods" doc:"Set the status of those pods to Failed, which their drivers see within seconds. Only with deletePods."`
	ForceDelete  bool          `yaml:"forceDelete" doc:"Delete those pods by force, as no kubelet is left to confirm it. Only with deletePods."`
	OutOfService bool          `yaml:"outOfService" doc:"Taint a dead node as out of service, so that its volumes can be attached elsewhere."`
}

func defaultKubernetes() Kubernetes {
	return Kubernetes{
		Cordon: true, DeletePods: true, Grace: 2 * time.Second, Events: true,
		Volumes: Volumes{Mark: true, Hide: true, Adopt: AdoptLink},
	}
}

func defaultSurvivor() Survivor {
	return Survivor{After: 10 * time.Second, DeletePods: true, FailPods: true, ForceDelete: true, OutOfService: true}
}

// Check returns all that a survivor can't do at once, each as a *KeyError.
func (s Survivor) Check() error {
	var all complaints
	visit(reflect.ValueOf(s), survivorKeys, func(f field) { f.check(all.add) }, nil)
	if s.Nodes == "" {
		all.add("survivor.nodes", "empty: set the label selector of the nodes to look after, as karpenter.sh/capacity-type=spot")
	}
	if s.FailPods && !s.DeletePods {
		all.add("survivor.failPods", "a pod whose status is Failed without being deleted counts as a failure of its application: set survivor.deletePods too, or this to false")
	}
	if s.ForceDelete && !s.DeletePods {
		all.add("survivor.forceDelete", "nothing is deleted by force that is not deleted: set survivor.deletePods too, or this to false")
	}
	return errors.Join(all...)
}
