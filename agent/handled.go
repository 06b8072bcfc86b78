package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/providers"
)

// maxHandled is how many notices the status page can tell of.
const maxHandled = 100

// handled is what was made of the last notices, for whoever looks.
type handled struct {
	mu   sync.Mutex
	list []status.Notice
}

func (h *handled) note(n providers.Notice, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = slices.DeleteFunc(h.list, func(s status.Notice) bool { return s.ID == n.ID })
	h.list = append(h.list, status.Notice{Notice: n, LeadsTo: what, Since: time.Now()})
	if len(h.list) > maxHandled {
		h.list = slices.Delete(h.list, 0, len(h.list)-maxHandled)
	}
}

func (h *handled) all() []status.Notice {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}
