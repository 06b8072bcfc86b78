package chart

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
)

// PlainManifest is a file in deploy/manifests, for those who don't use Helm.
type PlainManifest struct {
	Release Release
	// Says is what its reader has to know before it is applied, a comment. "": nothing, because the file brings the namespace.
	Says string
}

const namespace = `apiVersion: v1
kind: Namespace
metadata:
  name: lifeboat
  labels:
    pod-security.kubernetes.io/enforce: privileged # the host's processes, network and state folder
`

// Plain are the manifests in deploy/manifests, by file. The policy has one of its own, because the API servers of the oldest
// versions that the rest suits don't know its kind.
func Plain() map[string]PlainManifest {
	type m = map[string]any
	noPolicy := m{"ownNodeOnly": false}
	return map[string]PlainManifest{
		"agent.yaml":         {Release: Release{Values: m{"rbac": noPolicy}}},
		"agent-metrics.yaml": {Release: Release{Values: m{"rbac": noPolicy, "metrics": m{"enabled": true}}}},
		"own-node-policy.yaml": {
			Release: Release{Values: m{"rbac": m{"ownNodeOnly": true}}, Only: []string{"ownnode.yaml"}},
			Says:    "# For Kubernetes 1.32 or later, beside agent.yaml or agent-metrics.yaml.\n",
		},
		"survivor.yaml": {
			Release: Release{
				Values: m{"survivor": m{"enabled": true}, "config": m{"survivor": m{"nodes": "see the ConfigMap"}}},
				Only:   []string{"survivor-resourcequota.yaml", "survivor-rbac.yaml", "survivor-deployment.yaml"},
			},
			Says: "# Beside agent.yaml or agent-metrics.yaml, whose ConfigMap must say first which nodes the survivors look after:\n" +
				"#   survivor: {nodes: karpenter.sh/capacity-type=spot}\n",
		},
	}
}

// helmOnly is what says that Helm looks after an object.
var helmOnly = regexp.MustCompile(`(?m)^( *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*|# Source: .*)\n`)

// Plain is a manifest without Helm: the objects, with the namespace in front, which Helm leaves to its user.
func (r *Renderer) Plain(ctx context.Context, m PlainManifest) ([]byte, error) {
	out, err := r.Manifests(ctx, m.Release)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("# Made from deploy/chart by make manifests: change the chart, not this file.\n")
	if m.Says == "" {
		b.WriteString(namespace)
	}
	fmt.Fprintf(&b, "%s%s", m.Says, helmOnly.ReplaceAll(out, nil))
	return b.Bytes(), nil
}
