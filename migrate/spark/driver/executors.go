package driver

import (
	"context"

	"github.com/lifeboat/lifeboat/migrate/spark/java"
)

// ExecutorInfo is one executor as the driver sees it (o.a.s.status.api.v1.ExecutorSummary). The driver
// does not show here which ones are marked as leaving.
type ExecutorInfo struct {
	ID              string `json:"id"`
	HostPort        string `json:"hostPort"` // of its block manager
	IsActive        bool   `json:"isActive"`
	IsExcluded      bool   `json:"isExcluded"` // from scheduling, because tasks failed there
	TotalCores      int    `json:"totalCores"`
	ActiveTasks     int    `json:"activeTasks"`
	RDDBlocks       int    `json:"rddBlocks"`
	MemoryUsed      int64  `json:"memoryUsed"` // bytes of cached blocks in memory
	DiskUsed        int64  `json:"diskUsed"`   // bytes of cached blocks on disk
	ResourceProfile int    `json:"resourceProfileId"`
}

// BlockManager is the executor's name as peers are asked for with: its host is written as Spark writes
// it, an IPv6 address in brackets. ok is false for an executor without an address.
func (e ExecutorInfo) BlockManager() (id java.BlockManagerID, ok bool) {
	host, port, err := splitAddress(e.HostPort)
	if err != nil {
		return java.BlockManagerID{}, false
	}
	return java.BlockManagerID{Executor: e.ID, Host: bracketed(host), Port: port}, true
}

// Executors asks for the active executors, without the driver itself.
func (r *REST) Executors(ctx context.Context) ([]ExecutorInfo, error) {
	var all []ExecutorInfo
	err := list(ctx, r, r.appPath("/executors"), func(e ExecutorInfo) {
		if e.IsActive && e.ID != "driver" {
			all = append(all, e)
		}
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
