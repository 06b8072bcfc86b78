package wiretest

import (
	"fmt"
	"slices"

	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// Executor is the script of a block manager's server: it says who it is and stores every block.
type Executor struct {
	App, ID string
	Dirs    []string // its folders; nil: two that do not exist
	// Upload is asked before a block is acknowledged; false means that the script has dealt with the request.
	Upload func(s *Session, r Request) bool
	// Peek is asked before a block's body is read; see Script.
	Peek func(s *Session, r Request) bool
}

// Script is what the executor does on each connection.
func (e Executor) Script() Script { return Script{Peek: e.Peek, Handle: e.handle} }

func (e Executor) handle(s *Session, r Request) {
	if r.Type == wire.TypeUploadStream {
		if e.Upload == nil || e.Upload(s, r) {
			s.Answer(r.ID, nil)
		}
		return
	}
	app, execs, err := wire.DecodeGetLocalDirs(r.Body)
	switch {
	case err != nil:
		s.Fail(r.ID, "java.lang.IllegalArgumentException: "+err.Error())
	case app != e.App:
		s.Fail(r.ID, fmt.Sprintf("java.lang.IllegalStateException: Invalid GetLocalDirsForExecutors request: incorrect application id: %s;", app))
	case !slices.Equal(execs, []string{e.ID}):
		s.Fail(r.ID, fmt.Sprintf("java.lang.IllegalStateException: Invalid executor id: %v, expected %s.", execs, e.ID))
	default:
		dirs := e.Dirs
		if dirs == nil {
			dirs = []string{"/data/blockmgr-1", "/data/blockmgr-2"}
		}
		s.Answer(r.ID, wire.LocalDirs(wire.Folders{Executor: e.ID, Dirs: dirs}))
	}
}
