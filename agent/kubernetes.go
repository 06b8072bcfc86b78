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
	list, err := openKube(p, node, d)
	if err != nil && p.Enabled == config.Auto {
		d.Log.Warn("Kubernetes is not watched", zap.Error(err))
		return nil, nil
	}
	return list, err
}

func openKube(p config.Kube, node string, d Deps) ([]providers.Source, error) {
	cluster, err := kube.Open(kube.Access{Kubeconfig: p.Kubeconfig})
	if err != nil {
		return nil, fmt.Errorf("providers.kube: %w", err)
	}
	o := kube.Options{Cluster: cluster, Node: node, ShutdownLead: p.Lead, Timeout: p.Timeout, Log: d.Log, Metrics: d.Registry}
	var m making
	m.add(kube.NewNode(o))
	m.add(kube.NewPods(o))
	if m.err != nil {
		return nil, fmt.Errorf("providers.kube: %w", m.err)
	}
	return m.list, nil
}
