package migratetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/lifeboat/lifeboat/migrate"
)

// Memory is a Destination and Announcer in memory. What goes wrong with it is said by behaviours.
type Memory struct {
	target migrate.Target
	// Hollow makes it keep no bytes, only which outputs it has. Set it before the first use.
	Hollow bool

	mu        sync.Mutex
	behave    []Behaviour
	calls     []Call
	busy      int
	mostBusy  int
	data      map[migrate.OutputID][]byte
	index     map[migrate.OutputID][]byte // present: the output can be read
	announced map[migrate.OutputID]int
}

// NewMemory makes an empty one that behaves as told; without behaviours it takes everything at once.
func NewMemory(t migrate.Target, behave ...Behaviour) *Memory {
	return &Memory{
		target: t, behave: behave,
		data: map[migrate.OutputID][]byte{}, index: map[migrate.OutputID][]byte{}, announced: map[migrate.OutputID]int{},
	}
}

// Executor is the target of an executor on a host of its own.
func Executor(id string) migrate.Target {
	return migrate.Target{Executor: id, Host: "host-" + id, Port: 7337}
}

// Target is migrate.Destination's.
func (m *Memory) Target() migrate.Target { return m.target }

// Put is migrate.Destination's.
func (m *Memory) Put(ctx context.Context, out *migrate.Output) (migrate.Location, error) {
	defer m.leave()
	call, behave := m.enter(out)
	at := migrate.Location{Target: m.target, Announced: true}
	for _, b := range behave {
		if err := b(ctx, call); err != nil {
			return migrate.Location{}, fmt.Errorf("put %v to %v: %w", out.ID, m.target, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return migrate.Location{}, err
	}
	if m.Hollow {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.index[out.ID] = nil
		return at, nil
	}
	return at, m.copy(out)
}

// copy takes the data, and then the index, as the contract of Put wants it.
func (m *Memory) copy(out *migrate.Output) error {
	var data []byte
	if out.Data != nil {
		var err error
		if data, err = read(out.ID.DataBlock(), out.Data); err != nil {
			return err
		}
	}
	m.mu.Lock()
	m.data[out.ID] = data
	m.mu.Unlock()
	index, err := read(out.ID.IndexBlock(), out.Index)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index[out.ID] = index
	return nil
}

func read(name string, b migrate.Blob) ([]byte, error) {
	buf := make([]byte, b.Size())
	if n, err := b.ReadAt(buf, 0); n < len(buf) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, &migrate.Error{Op: "read " + name, Kind: migrate.Corrupt, Err: err}
	}
	return buf, nil
}

func (m *Memory) enter(out *migrate.Output) (Call, []Behaviour) {
	m.mu.Lock()
	defer m.mu.Unlock()
	call := Call{N: len(m.calls), Output: out}
	m.calls = append(m.calls, call)
	m.busy++
	m.mostBusy = max(m.mostBusy, m.busy)
	return call, m.behave
}

func (m *Memory) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy--
}

// Announce is migrate.Announcer's. It counts; see Announced.
func (m *Memory) Announce(ctx context.Context, at []migrate.Located) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range at {
		if _, ok := m.index[l.Output.ID]; !ok {
			return fmt.Errorf("%v is not at %v", l.Output.ID, m.target)
		}
		m.announced[l.Output.ID]++
	}
	return ctx.Err()
}

// Behave replaces the behaviours for the calls of Put that begin from now on.
func (m *Memory) Behave(behave ...Behaviour) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.behave = behave
}

// Stored is what a reader would get of an output; ok is false when it can't be read here.
func (m *Memory) Stored(id migrate.OutputID) (index, data []byte, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	index, ok = m.index[id]
	return index, m.data[id], ok
}

// Has says that an output can be read here.
func (m *Memory) Has(id migrate.OutputID) bool {
	_, _, ok := m.Stored(id)
	return ok
}

// Announced is how often each output was announced.
func (m *Memory) Announced() map[migrate.OutputID]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.announced)
}

// Calls are the calls of Put so far, in order.
func (m *Memory) Calls() []Call {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

// Busy is how many calls of Put are under way, and how many were at the most.
func (m *Memory) Busy() (now, most int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.busy, m.mostBusy
}
