package journal

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

// Acted is true when there is a rescue for this notice, finished or not, unless it ended because the notice
// was withdrawn. A journal that can't be read counts for no notice: to act twice is harmless, not to act is
// not. It stands between a notice and the first byte; what it has read of finished rescues it remembers.
func (s *Store) Acted(noticeID string) bool {
	acted := false
	for _, id := range s.newest(0) {
		acted = slices.ContainsFunc(s.digest(id).Holding(), func(n providers.Notice) bool { return n.ID == noticeID }) || acted
	}
	return acted
}

// Told collects which executors the newest n rescues told their drivers of, or meant to. An executor's
// trigger is chosen once in its life, and not once in each rescue.
func (s *Store) Told(n int) map[Executor]Told {
	all := map[Executor]Told{}
	for _, id := range s.newest(n) {
		maps.Copy(all, s.digest(id).Told)
	}
	return all
}

// Last is the newest rescue that was finished, or nil: its notices, whom it told, and how it ended; of the outputs it says nothing.
// Dry runs, and rescues that ended because their notices were withdrawn, have done nothing and are left out.
func (s *Store) Last() *Replay {
	for _, id := range slices.Backward(s.newest(0)) {
		if r := s.digest(id); r.Done != nil && !r.Withdrawn && !r.Scope.DryRun {
			return r
		}
	}
	return nil
}

// Untold are the notices that hold of the newest rescue that was begun and not finished, when nobody was told of it yet. It
// reads less than Unfinished does.
func (s *Store) Untold() []providers.Notice {
	for _, id := range slices.Backward(s.newest(0)) {
		if s.endsDone(id) {
			continue
		}
		if r := s.digest(id); !r.Finished() && !r.Scope.DryRun {
			if len(r.Told) > 0 {
				return nil
			}
			return r.Holding()
		}
	}
	return nil
}

// newest lists the last n rescues, oldest first; all when n is 0.
func (s *Store) newest(n int) []string {
	ids, err := IDs(s.dir)
	if err != nil {
		s.log.Warn("earlier rescues can't be read", zap.Error(err))
	}
	if n == 0 {
		return ids
	}
	return ids[max(len(ids)-n, 0):]
}

// digest is what later rescues have to know of an earlier one: its notices, whom it told, and how it ended. It may be shared.
func (s *Store) digest(id string) *Replay {
	s.mu.Lock()
	d, known := s.digests[id]
	s.mu.Unlock()
	if known {
		return d
	}
	done := s.endsDone(id)
	d, err := s.read(id)
	if err != nil {
		s.passOver(id, err)
	}
	if done && err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.digests[id] = d
	}
	return d
}

func (s *Store) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.digests, id)
}

// read decodes only the few lines that matter: a journal has one for each map output.
func (s *Store) read(id string) (*Replay, error) {
	r := newReplay()
	r.ID = id
	f, err := s.openRead(id)
	if err != nil {
		return r, err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, 64<<10)
	for {
		line, _, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil && !errors.Is(err, errLongLine) {
			return r, err
		}
		if !matters(line) {
			continue
		}
		if rec, err := decode(line); err == nil {
			_ = r.apply(rec) // fails for outputs only
		}
	}
}

func matters(line []byte) bool {
	return slices.ContainsFunc([]string{`"notice":{`, `"type":"told`, `"type":"done"`}, func(s string) bool { return bytes.Contains(line, []byte(s)) })
}
