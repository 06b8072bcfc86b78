package shuffle

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/lifeboat/lifeboat/migrate"
)

// maxCopies is how many files of the same name are looked at. Two are rare: an executor that received
// the output of another one on the same node.
const maxCopies = 8

// place is one file that may be part of an output.
type place struct {
	name
	at *bucket
}

// pending remembers why an output is not complete, and for which state of its files.
type pending struct {
	reason string
	// looked is a hash of the identity, size and time of all files; 0: they were too young for
	// "unchanged" to mean anything.
	looked uint64
}

// candidate is an opened file.
type candidate struct {
	at   *bucket
	fd   int // for an index open for reading, for data only held
	stat unix.Stat_t
	last int64 // index: its last offset
}

// join puts index and data files together, over all folders: with several local directories the two
// files of one output lie where their names' hashes say.
func (s *Store) join(p *pass) {
	places := s.places()
	p.found = make([]Found, 0, len(places)/2)
	still := make(map[key]pending)
	for first := 0; first < len(places); {
		end := first + 1
		for end < len(places) && places[end].key() == places[first].key() {
			end++
		}
		group := places[first:end]
		first = end
		if p.ctx.Err() != nil {
			break
		}
		out, state := s.evaluate(p, group)
		switch {
		case out != nil:
			s.accept(p, out)
		case state.reason != "":
			still[group[0].key()] = state
			p.skipped = append(p.skipped, Skipped{ID: s.id(group[0].key()), Folder: group[0].at.folder.name, Reason: state.reason})
		}
	}
	s.pending = still
	s.forgetReturned()
}

// places is every name that waits, sorted so that those of one output stand together, index first.
func (s *Store) places() []place {
	places := make([]place, 0, s.waiting)
	for _, l := range s.locals {
		for _, f := range l.folders {
			for _, b := range f.buckets {
				for _, n := range b.names {
					places = append(places, place{n, b})
				}
			}
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.shuffle, b.shuffle), cmp.Compare(a.mapID, b.mapID), cmp.Compare(a.kind, b.kind))
	})
	return places
}

func (s *Store) forgetReturned() {
	for _, l := range s.locals {
		for _, f := range l.folders {
			for _, b := range f.buckets {
				before := len(b.names)
				b.names = slices.DeleteFunc(b.names, func(n name) bool { return s.known[n.key()] != nil })
				s.waiting -= before - len(b.names)
				if len(b.names) == 0 {
					b.names = nil
				}
			}
		}
	}
}

func (s *Store) id(k key) migrate.OutputID {
	return migrate.OutputID{App: s.app, Shuffle: int(k.shuffle), Map: k.mapID}
}

func (s *Store) accept(p *pass, out *output) {
	s.known[out.key()] = out
	f := out.index.at.folder
	f.outputs++
	f.bytes += out.Bytes()
	p.found = append(p.found, Found{Output: &out.Output, Folder: f.name})
}

// evaluate returns an output, or why it is not one yet. Both empty: its files have gone.
func (s *Store) evaluate(p *pass, group []place) (*output, pending) {
	before, waited := s.pending[group[0].key()]
	if waited && before.looked != 0 && before.looked == look(p.now, group) {
		return nil, before
	}
	var indexes, data []candidate
	var problems []error
	defer func() { closeAll(indexes); closeAll(data) }()
	for _, pl := range group {
		var c candidate
		var err error
		switch {
		case pl.kind == indexFile && len(indexes) < maxCopies:
			if c, err = s.openIndex(pl); err == nil {
				indexes = append(indexes, c)
			}
		case pl.kind == dataFile && len(data) < maxCopies && len(indexes) > 0:
			if c, err = openData(pl); err == nil {
				data = append(data, c)
			}
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			problems = append(problems, fmt.Errorf("%v: %w", pl.name, explain(err)))
		}
	}
	if i, d := choose(indexes, data); i != nil {
		return s.build(group[0].key(), i, d), pending{}
	}
	state := pending{reason: reason(group, indexes, data, problems)}
	if !slices.ContainsFunc(problems, passing) {
		state.looked = look(p.now, group)
	}
	return nil, state
}

// passing is true for an error that says nothing about the file itself, as a lack of descriptors.
func passing(err error) bool {
	var bad badIndex
	return !errors.As(err, &bad) && !errors.Is(err, errNotRegular)
}

func closeAll(candidates []candidate) {
	for _, c := range candidates {
		if c.fd >= 0 {
			unix.Close(c.fd)
		}
	}
}

func (s *Store) openIndex(pl place) (candidate, error) {
	fd, st, err := openRegular(int(pl.at.folder.fd), pl.at.path(pl.name))
	if err != nil {
		return candidate{}, err
	}
	last, err := verifyIndex(fdReader(fd), st.Size, s.buffer)
	if err != nil {
		unix.Close(fd)
		return candidate{}, err
	}
	return candidate{at: pl.at, fd: fd, stat: st, last: last}, nil
}

func openData(pl place) (candidate, error) {
	fd, st, err := openPath(int(pl.at.folder.fd), pl.at.path(pl.name))
	return candidate{at: pl.at, fd: fd, stat: st}, err
}

// fdReader reads a bare descriptor.
type fdReader int

func (r fdReader) ReadAt(b []byte, off int64) (int, error) {
	n, err := readFull(int(r), b, off)
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

// choose finds the best complete pair: files of the same folder before a mix, then the newest. An
// index of nothing needs no data.
func choose(indexes, data []candidate) (index, dat *candidate) {
	together, newest := false, time.Time{}
	consider := func(i, d *candidate) {
		same := d == nil || d.at.folder == i.at.folder
		when := committed(i, d)
		if index == nil || (same && !together) || (same == together && when.After(newest)) {
			index, dat, together, newest = i, d, same, when
		}
	}
	for n := range indexes {
		i := &indexes[n]
		if i.last == 0 && len(data) == 0 {
			consider(i, nil)
		}
		for m := range data {
			switch {
			case data[m].stat.Size != i.last:
			case i.last == 0:
				consider(i, nil)
			default:
				consider(i, &data[m])
			}
		}
	}
	return index, dat
}

// committed is when the newer of the two files was written.
func committed(i, d *candidate) time.Time {
	when := i.stat.Mtim.Nano()
	if d != nil {
		when = max(when, d.stat.Mtim.Nano())
	}
	return time.Unix(0, when)
}

// build makes the output and pins its files, if the limit allows.
func (s *Store) build(k key, i, d *candidate) *output {
	out := &output{Output: migrate.Output{ID: s.id(k), Committed: committed(i, d)}}
	out.index.fill(out, i.at, &i.stat)
	out.Index = &out.index
	files := int64(1)
	if d != nil {
		out.data.fill(out, d.at, &d.stat)
		out.Data = &out.data
		files = 2
	} else {
		out.data.users.Store(handleClosed)
	}
	if !s.limit.take(files) {
		if s.limit.highest >= 0 {
			s.warn("cap of pinned files reached")
		}
		return out
	}
	if d != nil {
		fd, err := openHeld(d.fd)
		if err != nil {
			s.limit.give(files)
			s.limit.reached.Store(true)
			s.warn("files can't be pinned", zap.Error(err))
			return out
		}
		out.data.pin(fd)
	}
	out.index.pin(i.fd)
	i.fd = -1
	return out
}

func (s *Store) warn(what string, fields ...zap.Field) {
	if s.warned {
		return
	}
	s.warned = true
	s.log.Warn(what+": further map outputs are lost if their executor goes before they are copied",
		append(fields, zap.Int("cap", s.limit.Highest()), zap.String("app", s.app))...)
}

// reason says what keeps an output from being complete.
func reason(group []place, indexes, data []candidate, problems []error) string {
	switch {
	case len(problems) > 0:
		return errors.Join(problems...).Error()
	case len(indexes) > 0 && len(data) > 0:
		return fmt.Sprintf("data file has %d bytes, its index says %d", data[0].stat.Size, indexes[0].last)
	case len(indexes) > 0:
		return fmt.Sprintf("data file of %d bytes is missing", indexes[0].last)
	case group[0].kind == dataFile:
		return "index file is missing"
	}
	return "" // the index has gone since it was listed
}

// look hashes what an unchanged group of files would keep; 0 if some are too young to tell.
func look(now time.Time, group []place) uint64 {
	h := fnv.New64a()
	for _, pl := range group {
		c, err := openData(pl)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, errNotRegular) {
			return 0
		}
		if err != nil {
			fmt.Fprint(h, pl.at.folder.inode, pl.name, err)
			continue
		}
		unix.Close(c.fd)
		if now.Sub(time.Unix(0, c.stat.Mtim.Nano())) < settled || now.Sub(time.Unix(0, c.stat.Ctim.Nano())) < settled {
			return 0
		}
		fmt.Fprint(h, pl.at.folder.inode, pl.name, c.stat.Ino, c.stat.Size, c.stat.Mtim, c.stat.Ctim)
	}
	return h.Sum64() | 1
}
