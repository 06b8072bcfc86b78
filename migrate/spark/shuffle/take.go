package shuffle

import "slices"

// Take moves all that another store has found and holds into this one, and returns what of it is pinned: that stays so, also
// when its files are gone. What is not pinned is looked for anew by the next Scan. Both stores must be of the same application
// and Limit. The other one is closed by that. Outputs, processes and local directories that this store has already are not
// taken twice.
func (s *Store) Take(from *Store) []Found {
	if from.closed.Swap(true) {
		return nil
	}
	from.scan.Lock()
	defer from.scan.Unlock()
	defer from.drop()
	s.scan.Lock()
	defer s.scan.Unlock()
	if s.closed.Load() {
		return nil
	}
	s.failed = append(s.failed, from.failed...)
	from.roots = slices.DeleteFunc(from.roots, s.takeRoot)
	from.locals = slices.DeleteFunc(from.locals, s.takeLocal)
	found := s.takeOutputs(from)
	s.forgetReturned()
	s.publish()
	return found
}

// takeRoot is false for a process that this store has already.
func (s *Store) takeRoot(r *root) bool {
	if slices.ContainsFunc(s.roots, func(had *root) bool { return had.pid == r.pid }) {
		return false
	}
	s.roots = append(s.roots, r)
	return true
}

// takeLocal is false for a local directory that this store has already.
func (s *Store) takeLocal(l *local) bool {
	if slices.ContainsFunc(s.locals, func(had *local) bool { return had.device == l.device && had.inode == l.inode }) {
		return false
	}
	l.watchedBy = nil
	for _, f := range l.folders {
		f.store.Store(s)
		f.watchedBy, f.outputs, f.bytes = nil, 0, 0
		for _, b := range f.buckets {
			b.watchedBy = nil
			s.waiting += len(b.names)
		}
	}
	s.locals = append(s.locals, l)
	return true
}

// takeOutputs takes those that are pinned; where they lay may be gone.
func (s *Store) takeOutputs(from *Store) []Found {
	var found []Found
	for k, out := range from.known {
		if s.known[k] != nil {
			continue
		}
		if !out.index.pinned() {
			for _, b := range []*blob{&out.index, &out.data} {
				if b.at != nil {
					b.at.stamp = stamp{}
				}
			}
			continue
		}
		at := out.index.at.folder
		at.store.Store(s)
		if out.Data != nil {
			out.data.at.folder.store.Store(s)
		}
		s.known[k] = out
		delete(from.known, k)
		at.outputs++
		at.bytes += out.Bytes()
		found = append(found, Found{Output: &out.Output, Folder: at.name})
	}
	return found
}
