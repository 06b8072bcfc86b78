package agent

import (
	"cmp"
	"fmt"
	"os"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	kubernetes "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// openKubernetes watches this node and its executor pods, and makes the client that knows of them what the sources do. What
// auto can't do is no error: the agent may run beside Kubernetes, or in a pod that was not given what this takes.
func openKubernetes(cfg config.Config, d Deps, standing func() bool) (*kubernetes.Client, []providers.Source, error) {
	p := cfg.Providers.Kube
	node := cmp.Or(p.Node, os.Getenv("NODE_NAME"))
	switch {
	case p.Enabled == config.Off, p.Enabled == config.Auto && p.Kubeconfig == "" && !kube.InCluster():
		return nil, nil, nil
	case p.Enabled == config.Auto && node == "":
		d.Log.Warn("Kubernetes is not watched: this node's name is not known; set NODE_NAME from the downward API (spec.nodeName), " +
			"or providers.kube.node")
		return nil, nil, nil
	}
	taints, err := kubeTaints(p)
	if err != nil {
		return nil, nil, err
	}
	client, list, err := openKube(cfg, kube.Options{Node: node, Taints: taints}, d, standing)
	if err != nil && p.Enabled == config.Auto {
		d.Log.Warn("Kubernetes is not watched", zap.Error(err))
		return nil, nil, nil
	}
	return client, list, err
}

// kubeTaints reads the configured taints. What can't be read is an error, also where Kubernetes may not be there.
func kubeTaints(p config.Kube) ([]kube.Taint, error) {
	var all []kube.Taint
	for _, text := range p.Taints {
		t, err := kube.ParseTaint(text)
		if err != nil {
			return nil, fmt.Errorf("providers.kube.taints: %w", err)
		}
		all = append(all, t)
	}
	return all, nil
}

func openKube(cfg config.Config, o kube.Options, d Deps, standing func() bool) (*kubernetes.Client, []providers.Source, error) {
	p := cfg.Providers.Kube
	var err error
	if o.Cluster, err = kube.Open(kube.Access{Kubeconfig: p.Kubeconfig}); err != nil {
		return nil, nil, fmt.Errorf("providers.kube: %w", err)
	}
	o.ShutdownLead, o.Timeout, o.Log, o.Metrics = p.Lead, p.Timeout, d.Log, d.Registry
	node, err := kube.NewNode(o)
	if err != nil {
		return nil, nil, fmt.Errorf("providers.kube: %w", err)
	}
	pods, err := kube.NewPods(o)
	if err != nil {
		return nil, nil, fmt.Errorf("providers.kube: %w", err)
	}
	client := kubernetes.New(kubernetes.Options{
		Cluster: o.Cluster, Node: node, Pods: pods, Name: o.Node, Config: cfg.Kubernetes, Taints: o.Taints,
		Proc: d.Proc, State: cfg.State, Standing: standing, Log: d.Log, Metrics: d.Registry,
	})
	return client, []providers.Source{node, pods}, nil
}
