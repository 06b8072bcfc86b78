package cluster

import (
	"fmt"
	"time"

	"github.com/lifeboat/lifeboat/integration/lab"
	"github.com/lifeboat/lifeboat/providers/aws/awstest"
	"github.com/lifeboat/lifeboat/providers/gcp/gcptest"
)

// Metadata is the metadata service of one node, at 169.254.169.254 in the node's network: the fake of one cloud at a time. It is
// AWS's when a cluster starts, and runs in this process.
type Metadata struct {
	AWS *awstest.Server // nil while another cloud's is there
	GCP *gcptest.Server // likewise

	node *Node
}

// Use shows the metadata service of a cloud, as on a node where nothing has been announced.
func (m *Metadata) Use(cloud lab.Cloud) error {
	m.close()
	err := m.node.net.Do(func() (err error) {
		switch cloud {
		case lab.AWS:
			m.AWS, err = awstest.Start(metadataAddress + ":80")
		case lab.GCP:
			m.GCP, err = gcptest.Start(metadataAddress + ":80")
		default:
			err = fmt.Errorf("no node here can be one of %s", cloud)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("metadata of %s: %w", m.node.Name, err)
	}
	return nil
}

// Reset shows the same cloud's as on a node where nothing has been announced.
func (m *Metadata) Reset() error {
	if m.GCP != nil {
		return m.Use(lab.GCP)
	}
	return m.Use(lab.AWS)
}

// Announce shows a spot notice: the node goes after that time. Google's names no time and means 30 s.
func (m *Metadata) Announce(in time.Duration) {
	if m.GCP != nil {
		m.GCP.Preempt()
		return
	}
	m.AWS.Announce("terminate", time.Now().Add(in))
}

// Withdraw takes AWS's notice back.
func (m *Metadata) Withdraw() { m.AWS.Withdraw() }

func (m *Metadata) close() {
	if m.AWS != nil {
		_ = m.AWS.Close()
	}
	if m.GCP != nil {
		_ = m.GCP.Close()
	}
	m.AWS, m.GCP = nil, nil
}
