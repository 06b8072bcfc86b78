package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/file"
)

// openSources makes the sources for whoever listens to them: a rescue by hand does not, and must not fail for their sake.
func (a *Agent) openSources() error {
	if a.deps.Sources != nil {
		return nil
	}
	list, err := newSources(a.cfg, a.deps)
	if err != nil {
		return err
	}
	client, watches, err := openKubernetes(a.cfg, a.deps, a.noticeStands)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kube, a.sources = client, slices.Concat(list, watches)
	return nil
}

// newSources makes the notice sources that the configuration names, beside Kubernetes. Those of a cloud that has to be found
// come later.
func newSources(cfg config.Config, d Deps) ([]providers.Source, error) {
	var list []providers.Source
	for _, c := range clouds(cfg) {
		if c.enabled != config.On && (c.enabled != config.Auto || c.name != cfg.Providers.Cloud) {
			continue
		}
		found, err := c.sources(d)
		if err != nil {
			return nil, fmt.Errorf("providers.%s: %w", c.name, err)
		}
		list = append(list, found...)
	}
	files, err := fileSources(cfg.Providers.File, d)
	return append(list, files...), err
}

func fileSources(p config.File, d Deps) ([]providers.Source, error) {
	var list []providers.Source
	if p.Enabled && p.Path != "" {
		s, err := file.New(file.Options{Path: p.Path, Lead: p.Lead, Log: d.Log, Metrics: d.Registry})
		if err != nil {
			return nil, fmt.Errorf("providers.file: %w", err)
		}
		list = append(list, s)
	}
	if p.Enabled && p.Folder != "" {
		s, err := file.NewFolder(file.FolderOptions{Path: p.Folder, Lead: p.Lead, Log: d.Log, Metrics: d.Registry})
		if err != nil {
			return nil, fmt.Errorf("providers.file: %w", err)
		}
		list = append(list, s)
	}
	return list, nil
}

// watched are the sources that run.
func (a *Agent) watched() []providers.Source {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.sources)
}

// inlet is where the sources of an agent send their notices.
type inlet struct {
	*Agent
	notices    chan providers.Notice
	failed     chan error
	background *sync.WaitGroup
}

// watch runs sources until ctx ends.
func (i *inlet) watch(ctx context.Context, sources []providers.Source) {
	for _, s := range sources {
		i.background.Go(func() {
			if err := s.Run(ctx, i.notices); err != nil && ctx.Err() == nil {
				select {
				case i.failed <- fmt.Errorf("notice source %s: %w", s.Name(), err):
				case <-ctx.Done():
				}
			}
		})
	}
}

// detect finds the cloud and runs its sources. It never ends the agent: without a cloud it looks again and again.
func (i *inlet) detect(ctx context.Context) {
	defer i.searched()
	c, err := i.detector.run(ctx)
	if err != nil {
		return
	}
	found, err := c.sources(i.deps)
	if err != nil {
		i.log.Error("the cloud's notices can't be watched", zap.String("cloud", c.name), zap.Error(err))
		i.setDetection(fmt.Sprintf("%s was found, but: %v", c.name, err))
		return
	}
	i.log.Info("cloud found", zap.String("cloud", c.name), zap.Int("sources", len(found)))
	i.setDetection(c.name)
	i.recall(found)
	i.mu.Lock()
	i.sources = append(i.sources, found...)
	i.mu.Unlock()
	i.watch(ctx, found)
}

func (a *Agent) searched() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.searching = false
}

func (a *Agent) detection() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.detected
}

func (a *Agent) setDetection(s string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.detected = s
}
