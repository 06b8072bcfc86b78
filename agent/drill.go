package agent

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/drill"
	"github.com/lifeboat/lifeboat/providers/file"
)

// openDrills adds the source of drills, a folder into which `lifeboat drill` writes. It lies below the state folder, which
// belongs to the agent's user alone: who may give a drill may as well end the executors without. Trouble with it is no reason to
// miss real notices.
func (a *Agent) openDrills() *drill.Attendance {
	here, err := drill.Attend(a.cfg.State)
	if err != nil {
		a.log.Warn("no drills are taken", zap.Error(err))
		return nil
	}
	if err := a.addDrills(); err != nil {
		a.log.Warn("no drills are taken", zap.Error(err))
		_ = here.Close()
		return nil
	}
	return here
}

func (a *Agent) addDrills() error {
	folder, err := drill.Folder(a.cfg.State)
	if err != nil {
		return err
	}
	s, err := file.NewFolder(file.FolderOptions{
		Path: folder, Name: drill.Source, Drills: true, Lead: a.cfg.Deadline.Default, Log: a.log, Metrics: a.registry,
	})
	if err != nil {
		return fmt.Errorf("drills: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sources = append(a.sources, s)
	return nil
}
