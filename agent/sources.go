package agent

import (
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/aws"
	"github.com/lifeboat/lifeboat/providers/file"
)

// newSources makes the notice sources that the configuration enables.
func newSources(cfg config.Config, d Deps) ([]providers.Source, error) {
	var list []providers.Source
	if p := cfg.Providers.AWS; cfg.Providers.Uses("aws", p.Enabled) {
		s, err := aws.NewSpot(aws.Options{Interval: p.Poll, Timeout: p.Timeout, Log: d.Log, Metrics: d.Registry})
		switch {
		case errors.Is(err, aws.ErrDisabled):
			d.Log.Warn("EC2 metadata is not watched", zap.Error(err))
		case err != nil:
			return nil, fmt.Errorf("providers.aws: %w", err)
		default:
			list = append(list, s)
		}
	}
	if p := cfg.Providers.File; p.Enabled {
		s, err := file.New(file.Options{Path: p.Path, Lead: p.Lead, Log: d.Log, Metrics: d.Registry})
		if err != nil {
			return nil, fmt.Errorf("providers.file: %w", err)
		}
		list = append(list, s)
	}
	return list, nil
}
