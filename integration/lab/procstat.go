package lab

import (
	"time"

	"github.com/prometheus/procfs"
)

// Usage is what a process has used.
type Usage struct {
	PeakRSS int64         // bytes: VmHWM, the most it ever had in memory
	RSS     int64         // bytes: VmRSS, what it has now
	CPU     time.Duration // user and system
}

// UsageOf reads the usage of a living process.
func UsageOf(pid int) (Usage, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return Usage{}, err
	}
	status, err := p.NewStatus()
	if err != nil {
		return Usage{}, err
	}
	stat, err := p.Stat()
	if err != nil {
		return Usage{}, err
	}
	return Usage{
		PeakRSS: int64(status.VmHWM), RSS: int64(status.VmRSS),
		CPU: time.Duration(stat.CPUTime() * float64(time.Second)),
	}, nil
}
