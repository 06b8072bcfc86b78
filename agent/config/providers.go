package config

import (
	"reflect"
	"time"
)

// Values of Providers.Cloud beside the names of the clouds.
const (
	CloudAuto = "auto" // find out
	CloudNone = "none" // there is none
)

// Providers are the sources of notices. A file may also name the cloud alone: "providers: auto".
type Providers struct {
	Cloud   string  `yaml:"cloud" doc:"Whose metadata to watch. auto finds out which cloud this machine is in." oneof:"auto|aws|gcp|azure|alibaba|tencent|none"`
	AWS     AWS     `yaml:"aws"`
	GCP     GCP     `yaml:"gcp"`
	Azure   Azure   `yaml:"azure"`
	Alibaba Alibaba `yaml:"alibaba"`
	Tencent Tencent `yaml:"tencent"`
	Kube    Kube    `yaml:"kube"`
	File    File    `yaml:"file"`
}

// UnmarshalYAML takes a single word for the cloud. It has the form with a function because only that one keeps
// the decoder strict about what stands below.
func (p *Providers) UnmarshalYAML(decode func(any) error) error {
	type keys Providers
	return wordOr(decode, &p.Cloud, (*keys)(p))
}

// Toggle says whether a source is used: true, false, or auto, which leaves it to what the agent finds.
type Toggle string

// The values of a Toggle.
const (
	Auto Toggle = "auto"
	On   Toggle = "true"
	Off  Toggle = "false"
)

// AWS is EC2's instance metadata: spot notice, rebalance recommendation, Auto Scaling's target state and scheduled
// events. The variables of the AWS SDK, such as AWS_EC2_METADATA_SERVICE_ENDPOINT, keep their meaning.
type AWS struct {
	Enabled  Toggle        `yaml:"enabled" doc:"Watch EC2's instance metadata. auto: when this is EC2." oneof:"auto|true|false"`
	Endpoint string        `yaml:"endpoint" doc:"Address of the metadata service. \"\": that of the AWS SDK and its variables."`
	Poll     time.Duration `yaml:"poll" doc:"How often each item of the metadata is asked for; scheduled events 30 times as seldom. AWS advises at most 5s." min:"20ms" max:"1m"`
	Timeout  time.Duration `yaml:"timeout" doc:"How long one request to the metadata may take." min:"100ms" max:"30s"`
	Lead     time.Duration `yaml:"lead" doc:"Time from a spot notice whose own time can't be read to the end of the node." min:"5s" max:"24h"`
	ASGLead  time.Duration `yaml:"asgLead" doc:"Time from Auto Scaling's target state to the end of the node, which the metadata does not say. With a lifecycle hook: its heartbeat timeout." min:"5s" max:"48h"`
}

// GCP is the metadata server of Google Compute Engine. GCE_METADATA_HOST keeps its meaning.
type GCP struct {
	Enabled  Toggle        `yaml:"enabled" doc:"Watch the metadata server of Compute Engine. auto: when this is Google Cloud." oneof:"auto|true|false"`
	Endpoint string        `yaml:"endpoint" doc:"Address of the metadata server. \"\": that of Google's client and GCE_METADATA_HOST."`
	Poll     time.Duration `yaml:"poll" doc:"How often the server is asked where it can't be made to answer when something changes." min:"20ms" max:"1m"`
	Timeout  time.Duration `yaml:"timeout" doc:"How long one answer may take, beside the wait for a change." min:"100ms" max:"30s"`
	Lead     time.Duration `yaml:"lead" doc:"Time from a preemption to the end of the node. 2m where instances are made with that notice." min:"5s" max:"24h"`

	MaintenanceLead time.Duration `yaml:"maintenanceLead" doc:"Time from a maintenance event that names no time to its beginning." min:"5s" max:"24h"`
}

// Azure is the Scheduled Events of Azure's instance metadata.
type Azure struct {
	Enabled     Toggle        `yaml:"enabled" doc:"Watch Scheduled Events. auto: when this is Azure." oneof:"auto|true|false"`
	Endpoint    string        `yaml:"endpoint" doc:"Address of the instance metadata. \"\": Azure's."`
	Poll        time.Duration `yaml:"poll" doc:"How often the events are asked for. Azure advises 1s." min:"20ms" max:"1m"`
	Timeout     time.Duration `yaml:"timeout" doc:"How long one request to the metadata may take." min:"100ms" max:"3m"`
	Lead        time.Duration `yaml:"lead" doc:"Time from an event that has begun already, or names no time, to the end of the node." min:"5s" max:"24h"`
	VMName      string        `yaml:"vmName" doc:"Name of this VM in events. \"\": asked of the metadata."`
	Acknowledge bool          `yaml:"acknowledge" doc:"Let an event of this VM alone begin early, once everything is saved. Others are never acknowledged."`
}

// Alibaba is the metadata of Alibaba Cloud's ECS.
type Alibaba struct {
	Enabled  Toggle        `yaml:"enabled" doc:"Watch the metadata of ECS. auto: when this is Alibaba Cloud." oneof:"auto|true|false"`
	Endpoint string        `yaml:"endpoint" doc:"Address of the metadata service. \"\": Alibaba Cloud's."`
	Poll     time.Duration `yaml:"poll" doc:"How often the metadata is asked." min:"20ms" max:"1m"`
	Timeout  time.Duration `yaml:"timeout" doc:"How long one request to the metadata may take." min:"100ms" max:"30s"`
	Lead     time.Duration `yaml:"lead" doc:"Time from a notice whose own time has passed to the end of the node." min:"5s" max:"24h"`
}

// Tencent is the metadata of Tencent Cloud's CVM.
type Tencent struct {
	Enabled  Toggle        `yaml:"enabled" doc:"Watch the metadata of CVM. auto: when this is Tencent Cloud." oneof:"auto|true|false"`
	Endpoint string        `yaml:"endpoint" doc:"Address of the metadata service. \"\": Tencent Cloud's."`
	Poll     time.Duration `yaml:"poll" doc:"How often the metadata is asked." min:"20ms" max:"1m"`
	Timeout  time.Duration `yaml:"timeout" doc:"How long one request to the metadata may take." min:"100ms" max:"30s"`
	Lead     time.Duration `yaml:"lead" doc:"Time from a notice whose own time has passed to the end of the node." min:"5s" max:"24h"`
}

// Kube is what the Kubernetes API server says of this node and of the executor pods on it.
type Kube struct {
	Enabled    Toggle        `yaml:"enabled" doc:"Watch this node and its executor pods at the API server. auto: when its address and the node's name are known, as in a pod." oneof:"auto|true|false"`
	Node       string        `yaml:"node" doc:"Name of this node in Kubernetes. \"\": the variable NODE_NAME, from the downward API (spec.nodeName)."`
	Kubeconfig string        `yaml:"kubeconfig" doc:"File with the address and the credentials of the API server. \"\": the pod's service account."`
	Timeout    time.Duration `yaml:"timeout" doc:"How long one request to the API server may take, beside watches." min:"1s" max:"1m"`
	Lead       time.Duration `yaml:"lead" doc:"Time from the beginning of a shutdown of the node to its end: shutdownGracePeriod less shutdownGracePeriodCriticalPods of the kubelet." min:"5s" max:"24h"`
	Taints     []string      `yaml:"taints" doc:"More taints that are notices, as KEY:KIND:LEAD or KEY=VALUE:KIND:LEAD (example.com/leaving:drain:5m); KEY:none for one that is none. They come before the known ones."`
}

// File is a notice by hand or by another program: for on-premises users.
type File struct {
	Enabled bool          `yaml:"enabled" doc:"Take the appearance of a file as a notice."`
	Path    string        `yaml:"path" doc:"The file whose appearance is the notice."`
	Folder  string        `yaml:"folder" doc:"A folder in which each file is a notice, beside path. \"\" for none."`
	Lead    time.Duration `yaml:"lead" doc:"Time from a file's appearance to the end of the node, when the file does not say." min:"5s" max:"24h"`
}

// What a notice leads to; see Notices.
const (
	ActRescue = "rescue" // now, or deadline.ahead before a scheduled end
	ActMirror = "mirror" // copy ahead, end nothing
	ActRecord = "record" // log and count
)

// Notices says what each kind of notice leads to.
type Notices struct {
	Preemption  string `yaml:"preemption" doc:"The cloud takes the node back." oneof:"rescue|mirror|record"`
	Drain       string `yaml:"drain" doc:"Somebody empties the node." oneof:"rescue|mirror|record"`
	Maintenance string `yaml:"maintenance" doc:"The machine is rebooted, moved to other hardware or retired at a known time." oneof:"rescue|mirror|record"`
	Rebalance   string `yaml:"rebalance" doc:"A preemption has become likely." oneof:"rescue|mirror|record"`
	Cordon      string `yaml:"cordon" doc:"Nothing new is to start on the node, and nothing has to go yet." oneof:"rescue|mirror|record"`
	Pause       string `yaml:"pause" doc:"The machine stands still or moves for seconds, and stays." oneof:"rescue|mirror|record"`
}

// Act is what a kind of notice leads to; "" for a kind that is not known.
func (n Notices) Act(kind string) string {
	act := ""
	visit(reflect.ValueOf(n), "", func(f field) {
		if f.name == kind {
			act = f.value.String()
		}
	}, nil)
	return act
}

func defaultProviders() Providers {
	const lead = 2 * time.Minute
	return Providers{
		Cloud:   CloudAuto,
		AWS:     AWS{Enabled: Auto, Poll: 2 * time.Second, Timeout: 3 * time.Second, Lead: lead, ASGLead: lead},
		GCP:     GCP{Enabled: Auto, Poll: time.Second, Timeout: 2 * time.Second, Lead: lead / 4, MaintenanceLead: time.Minute},
		Azure:   Azure{Enabled: Auto, Poll: time.Second, Timeout: 3 * time.Second, Lead: lead / 4},
		Alibaba: Alibaba{Enabled: Auto, Poll: 2 * time.Second, Timeout: 3 * time.Second, Lead: lead / 4},
		Tencent: Tencent{Enabled: Auto, Poll: 2 * time.Second, Timeout: 3 * time.Second, Lead: lead / 4},
		Kube:    Kube{Enabled: Auto, Timeout: 10 * time.Second, Lead: lead / 8},
		File:    File{Path: "/run/lifeboat/notice", Lead: lead},
	}
}
