package status

import "time"

// Survivor is how `lifeboat survivor` is, on the same pages as an agent.
type Survivor struct {
	Identity string `json:"identity"` // as in the Lease
	Leader   bool   `json:"leader"`
	// LeaseError is why this replica can't take part in the election; "" when it can.
	LeaseError string     `json:"leaseError,omitempty"`
	Nodes      int        `json:"nodes"`  // that are looked after
	Silent     int        `json:"silent"` // that the control plane does not hear
	Dead       []string   `json:"dead,omitempty"`
	Held       *time.Time `json:"held,omitempty"` // since when too many are silent at once to declare any dead without the cloud's word
}

// survivorNotReady lists why a survivor could not do its duty now. One that does not lead can: it waits for the leader to fail.
func (s Status) survivorNotReady() []string {
	reasons := []string{}
	for _, h := range s.Sources {
		if !h.OK {
			reasons = append(reasons, "the nodes can't be watched: "+h.Error)
		}
	}
	if s.Survivor.LeaseError != "" {
		reasons = append(reasons, "the Lease can't be read or written: "+s.Survivor.LeaseError)
	}
	if s.Stopping {
		reasons = append(reasons, "stopping")
	}
	return reasons
}
