package agent

import (
	"cmp"
	"fmt"
	"os"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// kubeSources watch this node and its executor pods. What auto can't do is no error: the agent may run beside Kubernetes, or in
// a pod that was not given what this takes.
func kubeSources(p config.Kube, d Deps) ([]providers.Source, error) {
	node := cmp.Or(p.Node, os.Getenv("NODE_NAME"))
	switch {
	case p.Enabled == config.Off, p.Enabled == config.Auto && p.Kubeconfig == "" && !kube.InCluster():
		return nil, nil
	case p.Enabled == config.Auto && node == "":
		d.Log.Warn("Kubernetes is not watched: this node's name is not known; set NODE_NAME from the downward API (spec.nodeName), " +
			"or providers.kube.node")
		return nil, nil
	}
	taints, err := kubeTaints(p)
	if err != nil {
		return nil, err
	}
	list, err := openKube(p, kube.Options{Node: node, Taints: taints}, d)
	if err != nil && p.Enabled == config.Auto {
		d.Log.Warn("Kubernetes is not watched", zap.Error(err))
		return nil, nil
	}
	return list, err
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

func openKube(p config.Kube, o kube.Options, d Deps) ([]providers.Source, error) {
	var err error
	if o.Cluster, err = kube.Open(kube.Access{Kubeconfig: p.Kubeconfig}); err != nil {
		return nil, fmt.Errorf("providers.kube: %w", err)
	}
	o.ShutdownLead, o.Timeout, o.Log, o.Metrics = p.Lead, p.Timeout, d.Log, d.Registry
	var m making
	m.add(kube.NewNode(o))
	m.add(kube.NewPods(o))
	if m.err != nil {
		return nil, fmt.Errorf("providers.kube: %w", m.err)
	}
	return m.list, nil
}
