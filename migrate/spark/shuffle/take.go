package shuffle

import "slices"

// Take moves all that another store has found and holds into this one, and returns it: what is pinned stays pinned, also when
// its files are gone. Both must be of the same application and Limit. The other one is closed by that; nobody may read its
// outputs meanwhile. Outputs and local directories that this store has already are not taken twice.
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
	s.roots, from.roots = append(s.roots, from.roots...), nil
	from.locals = slices.DeleteFunc(from.locals, s.takeLocal)
	found := s.takeOutputs(from)
	s.publish()
	return found
}

// takeLocal is false for a local directory that this store has already.
func (s *Store) takeLocal(l *local) bool {
	if slices.ContainsFunc(s.locals, func(had *local) bool { return had.device == l.device && had.inode == l.inode }) {
		return false
	}
	l.watchedBy = nil
	for _, f := range l.folders {
		f.store, f.watchedBy, f.outputs, f.bytes = s, nil, 0, 0
		for _, b := range f.buckets {
			b.watchedBy = nil
			s.waiting += len(b.names)
		}
	}
	s.locals = append(s.locals, l)
	return true
}

// takeOutputs takes those whose files lie in folders that were taken.
func (s *Store) takeOutputs(from *Store) []Found {
	var found []Found
	for k, out := range from.known {
		at := out.index.at.folder
		if at.store != s || s.known[k] != nil {
			continue
		}
		if out.Data != nil && out.data.at.folder.store != s {
			out.index.at.stamp = stamp{} // so that the next Scan looks for it
			continue
		}
		s.known[k] = out
		delete(from.known, k)
		at.outputs++
		at.bytes += out.Bytes()
		found = append(found, Found{Output: &out.Output, Folder: at.name})
	}
	return found
}
