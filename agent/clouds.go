package agent

import (
	"context"
	"errors"
	"os"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/alibaba"
	"github.com/lifeboat/lifeboat/providers/aws"
	"github.com/lifeboat/lifeboat/providers/azure"
	"github.com/lifeboat/lifeboat/providers/gcp"
	"github.com/lifeboat/lifeboat/providers/tencent"
)

// cloud is one whose metadata can be watched.
type cloud struct {
	name     string // as in providers.cloud
	enabled  config.Toggle
	endpoint string // of the configuration
	named    bool   // somebody has set an endpoint, there or in the environment of the cloud's SDK
	detect   func(ctx context.Context, endpoint string) bool
	sources  func(d Deps) ([]providers.Source, error)
}

// clouds are all that this agent knows.
func clouds(cfg config.Config) []cloud {
	p := cfg.Providers
	return []cloud{awsCloud(p.AWS), gcpCloud(p.GCP), azureCloud(p.Azure), alibabaCloud(p.Alibaba), tencentCloud(p.Tencent)}
}

func awsCloud(p config.AWS) cloud {
	return cloud{
		name: "aws", enabled: p.Enabled, endpoint: p.Endpoint, named: isSet(p.Endpoint, "AWS_EC2_METADATA_SERVICE_ENDPOINT"), detect: aws.Detect,
		sources: func(d Deps) ([]providers.Source, error) {
			client, err := aws.NewClient(p.Endpoint)
			if errors.Is(err, aws.ErrDisabled) {
				d.Log.Warn("EC2 metadata is not watched", zap.Error(err))
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			o := aws.Options{
				Client: client, Endpoint: p.Endpoint, Interval: p.Poll, Timeout: p.Timeout, Lead: p.Lead, Log: d.Log, Metrics: d.Registry,
			}
			group, scheduled := o, o
			group.Lead = p.ASGLead
			scheduled.Interval = max(p.Poll, min(30*p.Poll, aws.ScheduledInterval)) // they are known days ahead
			var m making
			m.add(aws.NewSpot(o))
			m.add(aws.NewRebalance(o))
			m.add(aws.NewLifecycle(group))
			m.add(aws.NewScheduled(scheduled))
			return m.list, m.err
		},
	}
}

func gcpCloud(p config.GCP) cloud {
	return cloud{
		name: "gcp", enabled: p.Enabled, endpoint: p.Endpoint, named: isSet(p.Endpoint, "GCE_METADATA_HOST"), detect: gcp.Detect,
		sources: func(d Deps) ([]providers.Source, error) {
			o := gcp.Options{Endpoint: p.Endpoint, Interval: p.Poll, Timeout: p.Timeout, Lead: p.Lead, Log: d.Log, Metrics: d.Registry}
			maintenance := o
			maintenance.Lead = p.MaintenanceLead
			var m making
			m.add(gcp.NewPreempted(o))
			m.add(gcp.NewMaintenance(maintenance))
			return m.list, m.err
		},
	}
}

func azureCloud(p config.Azure) cloud {
	return cloud{
		name: "azure", enabled: p.Enabled, endpoint: p.Endpoint, named: p.Endpoint != "", detect: azure.Detect,
		sources: func(d Deps) ([]providers.Source, error) {
			s, err := azure.New(azure.Options{
				Endpoint: p.Endpoint, VM: p.VMName, AcknowledgeEvents: p.Acknowledge, Lead: p.Lead, Interval: p.Poll, Timeout: p.Timeout,
				Log: d.Log, Metrics: d.Registry,
			})
			var m making
			if p.Acknowledge {
				m.add(s, err)
			} else {
				m.add(mute{s, s, s}, err)
			}
			return m.list, m.err
		},
	}
}

func alibabaCloud(p config.Alibaba) cloud {
	return cloud{
		name: "alibaba", enabled: p.Enabled, endpoint: p.Endpoint, named: p.Endpoint != "", detect: alibaba.Detect,
		sources: func(d Deps) ([]providers.Source, error) {
			var m making
			m.add(alibaba.New(alibaba.Options{
				Endpoint: p.Endpoint, Lead: p.Lead, Interval: p.Poll, Timeout: p.Timeout, Log: d.Log, Metrics: d.Registry,
			}))
			return m.list, m.err
		},
	}
}

func tencentCloud(p config.Tencent) cloud {
	return cloud{
		name: "tencent", enabled: p.Enabled, endpoint: p.Endpoint, named: p.Endpoint != "", detect: tencent.Detect,
		sources: func(d Deps) ([]providers.Source, error) {
			var m making
			m.add(tencent.New(tencent.Options{
				Endpoint: p.Endpoint, Lead: p.Lead, Interval: p.Poll, Timeout: p.Timeout, Log: d.Log, Metrics: d.Registry,
			}))
			return m.list, m.err
		},
	}
}

// making collects sources and the first error.
type making struct {
	list []providers.Source
	err  error
}

func (m *making) add(s providers.Source, err error) {
	if m.err == nil {
		m.err = err
	}
	m.list = append(m.list, s)
}

// mute is a source that is not to acknowledge, although it could.
type mute struct {
	providers.Source
	providers.Sight
	providers.Recaller
}

// isSet is true when the configuration or a variable of the cloud's SDK names an endpoint.
func isSet(endpoint, variable string) bool { return endpoint != "" || os.Getenv(variable) != "" }
