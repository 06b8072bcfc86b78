package lab

import (
	"fmt"
	"time"

	"github.com/lifeboat/lifeboat/providers/alibaba/alibabatest"
	"github.com/lifeboat/lifeboat/providers/aws/awstest"
	"github.com/lifeboat/lifeboat/providers/azure/azuretest"
	"github.com/lifeboat/lifeboat/providers/gcp/gcptest"
	"github.com/lifeboat/lifeboat/providers/tencent/tencenttest"
)

// Cloud is one whose metadata service a node can have, by its name in the configuration.
type Cloud string

// The clouds.
const (
	AWS     Cloud = "aws"
	GCP     Cloud = "gcp"
	Azure   Cloud = "azure"
	Alibaba Cloud = "alibaba"
	Tencent Cloud = "tencent"
)

// Lead is how long before the end the cloud documents to announce that it takes a spot node. Alibaba Cloud and Tencent
// Cloud promise none; they get the shortest of the others.
func (c Cloud) Lead() time.Duration {
	if c == AWS || c == "" {
		return 2 * time.Minute
	}
	return 30 * time.Second
}

// cloudFake is the metadata service of one node.
type cloudFake struct {
	env      string             // for the agent: the variable of AWS's SDK
	endpoint string             // for the agent's configuration, for the other clouds
	announce func(at time.Time) // that the node is taken; some clouds name no time
	close    func() error
}

// start runs the cloud's fake; the zero Cloud is AWS.
func (c Cloud) start() (cloudFake, error) {
	const address = "127.0.0.1:0"
	switch c {
	case AWS, "":
		s, err := awstest.Start(address)
		if err != nil {
			return cloudFake{}, err
		}
		announce := func(at time.Time) { s.Announce("terminate", at) }
		return cloudFake{env: "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + s.URL(), announce: announce, close: s.Close}, nil
	case GCP:
		s, err := gcptest.Start(address)
		if err != nil {
			return cloudFake{}, err
		}
		return cloudFake{endpoint: s.URL(), announce: func(time.Time) { s.Preempt() }, close: s.Close}, nil
	case Azure:
		s, err := azuretest.Listen(address)
		if err != nil {
			return cloudFake{}, err
		}
		announce := func(at time.Time) { s.Schedule(azuretest.Event{NotBefore: at}) }
		return cloudFake{endpoint: s.URL(), announce: announce, close: s.Close}, nil
	case Alibaba:
		s, err := alibabatest.Listen(address)
		if err != nil {
			return cloudFake{}, err
		}
		return cloudFake{endpoint: s.URL(), announce: s.Announce, close: s.Close}, nil
	case Tencent:
		s, err := tencenttest.Listen(address)
		if err != nil {
			return cloudFake{}, err
		}
		return cloudFake{endpoint: s.URL(), announce: s.Announce, close: s.Close}, nil
	}
	return cloudFake{}, fmt.Errorf("no cloud is called %q", c)
}
