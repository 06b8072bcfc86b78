package aws

import (
	"context"
	"strings"
)

// partitionItem is "aws", "aws-cn" or "aws-us-gov" on EC2 (EC2 user guide, "Instance metadata categories").
const partitionItem = "services/partition"

// Detect says whether this machine is an EC2 instance whose metadata can be read: the service gives a session token, and
// names a partition of AWS. Endpoint is as in Options. ctx limits how long it takes; there is no side effect.
func Detect(ctx context.Context, endpoint string) bool {
	c, err := NewClient(endpoint)
	if err != nil {
		return false
	}
	a, err := c.get(ctx, partitionItem)
	return err == nil && a.found && strings.HasPrefix(string(a.body), "aws")
}
