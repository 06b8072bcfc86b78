package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
)

// How the driver learns that an executor leaves. Chosen once per executor: after the RPC a SIGPWR ends
// the JVM at once, and an RPC that overtakes a SIGPWR does the same.
const (
	triggerRPC    = "rpc"    // ExecutorDecommissioning: the executor stays until the agent ends it
	triggerSIGPWR = "sigpwr" // the executor decommissions itself and moves its cached RDD blocks
	triggerHook   = "hook"   // the same, by the preStop hook of its pod, which is being deleted
)

// confirmTimeout is how long a self-decommissioning executor has to be taken off the driver's list of peers.
const confirmTimeout = 3 * time.Second

// tell marks the members at the driver, all at once, and returns when it has answered for each of them. An
// error says that there is no driver, or that it answered for none of them.
func (a *application) tell(ctx context.Context, members []*member) error {
	defer a.phase(phaseTell)()
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() { errs[i] = a.tellOne(ctx, m) })
	}
	all.Wait()
	if failed := errors.Join(errs...); final(failed) || !slices.Contains(errs, nil) {
		return failed
	}
	for i, err := range errs {
		if err != nil {
			a.problem(fmt.Errorf("the driver of %s was not told of executor %s: %w", a.id, members[i].ID, err))
		}
	}
	return nil
}

func (a *application) tellOne(ctx context.Context, m *member) error {
	if err := a.mayTell(); err != nil {
		return err
	}
	if told := a.resume.entry(a.id, m.ID); told.Accepted && !told.At.IsZero() {
		m.mark(told.Trigger, told.At)
		return nil
	}
	how := a.resume.intent(a.id, m.ID)
	if how == "" {
		how = a.chooseTrigger(ctx, m)
	}
	if err := a.intend(ctx, m, how); err != nil {
		return err
	}
	m.ask()
	tell := a.tellKnown
	switch how {
	case triggerSIGPWR:
		tell = a.tellBySignal
	case triggerHook:
		tell = a.awaitHook
	}
	accepted, err := tell(ctx, m)
	if errors.Is(err, executor.ErrGone) {
		err = nil // its driver sees that by itself
	}
	if err != nil {
		return err
	}
	a.log.Info("driver told", zap.String("executor", m.ID), zap.String("by", how), zap.Bool("accepted", accepted))
	m.mark(how, time.Now())
	if err := a.journal.Told(a.id, m.ID, how, accepted); err != nil {
		a.log.Error("journal not writable", zap.Error(err))
	}
	return nil
}

// intend writes down that the driver is about to be told. A disk may be full for a moment, so it is tried until
// ctx ends.
func (a *application) intend(ctx context.Context, m *member, how string) error {
	for {
		err := a.journal.TellIntent(a.id, m.ID, how)
		if err == nil {
			return nil
		}
		a.problem(fmt.Errorf("nobody is told as long as the journal is not writable: %w", err))
		if pause(ctx, retryPause) != nil {
			return err
		}
	}
}

func (m *member) mark(how string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trigger, m.asked, m.told, m.toldAt = how, true, true, at
}

// ask notes that the driver may hear of the executor from now on.
func (m *member) ask() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = true
}

func (m *member) wasAsked() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

// chooseTrigger takes the RPC unless the executor holds cached blocks that only Spark can move and is set up to, or
// may hold some: after the RPC they could not be moved any more.
func (a *application) chooseTrigger(ctx context.Context, m *member) string {
	if a.hookTells(ctx, m) {
		return triggerHook
	}
	blocks := a.cachedBlocks(m)
	if a.canMoveBlocks(m) && a.cfg.Spark.Trigger != triggerRPC {
		if blocks < 0 {
			blocks = a.awaitBlocks(ctx, m)
		}
		if blocks != 0 || a.cfg.Spark.Trigger == triggerSIGPWR {
			return triggerSIGPWR
		}
	}
	m.mu.Lock()
	m.rddBlocks = blocks
	m.mu.Unlock()
	if blocks > 0 {
		a.log.Warn("cached RDD blocks will be lost: Spark's own block migration is off",
			zap.String("executor", m.ID), zap.Int("blocks", blocks))
	}
	return triggerRPC
}

// canMoveBlocks says that the executor moves its cached blocks when it gets a SIGPWR.
func (a *application) canMoveBlocks(m *member) bool {
	return m.HandlesPWR && a.isOn("spark.decommission.enabled") && a.isOn("spark.storage.decommission.enabled") &&
		a.isOn("spark.storage.decommission.rddBlocks.enabled") && isPWR(a.props["spark.executor.decommission.signal"])
}

// awaitBlocks waits a moment for the driver's REST view, which is often slower than everything else: the first
// request of a driver's life starts its servlets.
func (a *application) awaitBlocks(ctx context.Context, m *member) int {
	ctx, cancel := context.WithTimeout(ctx, min(readingTimeout, a.untilTaken()/10))
	defer cancel()
	defer a.activity.want()()
	for {
		_, next := a.activity.latest()
		if n := a.cachedBlocks(m); n >= 0 {
			return n
		}
		select {
		case <-ctx.Done():
			return -1
		case <-next:
		}
	}
}

func (a *application) isOn(key string) bool { return strings.EqualFold(a.props[key], "true") }

func isPWR(signal string) bool { return signal == "" || strings.EqualFold(signal, "PWR") }

// cachedBlocks is how many cached RDD blocks the driver's REST view gives the executor; -1 when that is not known.
func (a *application) cachedBlocks(m *member) int {
	r, _ := a.activity.latest()
	e, known := r.executors[m.ID]
	if !known {
		return -1
	}
	return e.RDDBlocks
}

// tellKnown tells the driver of an executor that it knows. It refuses one that has just been started and has not
// registered yet, which would get tasks as soon as it has: so a refusal counts once the executor's block manager
// answers, because that starts after it has registered. Then it means that the executor is marked already.
func (a *application) tellKnown(ctx context.Context, m *member) (accepted bool, err error) {
	patience, cancel := ctx, context.CancelFunc(func() {})
	if !m.late {
		patience, cancel = context.WithTimeout(ctx, confirmTimeout) // the others wait for it
	}
	defer cancel()
	for {
		registered := m.located()
		accepted, err = a.tellByRPC(ctx, m)
		if err != nil || accepted || registered || m.gone() {
			return accepted, err
		}
		if pause(patience, retryPause/2) != nil {
			return accepted, nil
		}
		a.locateMembers(ctx)
	}
}

// tellByRPC repeats the question until it is answered: the second time, a driver that had heard the first says
// false, which means that the executor is already marked (or unknown to it).
func (a *application) tellByRPC(ctx context.Context, m *member) (accepted bool, err error) {
	for {
		once, cancel := context.WithTimeout(ctx, rpcTimeout)
		accepted, err = a.driver.Decommission(once, m.ID)
		cancel()
		if err == nil {
			return accepted, nil
		}
		if err = gone(err); final(err) {
			return false, err
		}
		a.log.Warn("driver not told yet", zap.String("executor", m.ID), zap.Error(err))
		if pause(ctx, retryPause) != nil {
			return false, err
		}
	}
}

// tellBySignal lets the executor decommission itself, and waits until the driver no longer offers it as a peer. When an
// earlier run of the agent may have sent the signal, it is sent only if the driver still offers the executor: a second one
// could end the JVM at once.
func (a *application) tellBySignal(ctx context.Context, m *member) (accepted bool, err error) {
	witnesses := a.witnesses(ctx, m)
	if a.resume.intent(a.id, m.ID) != "" && len(witnesses) == 0 {
		return true, nil
	}
	if err := m.process.Signal(syscall.SIGPWR); err != nil {
		return false, fmt.Errorf("SIGPWR to executor %s: %w", m.ID, err)
	}
	if !a.awaitMarked(ctx, m, witnesses) {
		a.log.Warn("the driver does not show the executor as leaving after SIGPWR; going on", zap.String("executor", m.ID))
	}
	return true, nil
}

// awaitMarked returns when one of the witnesses no longer has the executor as a peer: then the driver has marked it. It is false
// when that is not seen in time.
func (a *application) awaitMarked(ctx context.Context, m *member, witnesses []java.BlockManagerID) bool {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	for {
		for _, w := range witnesses {
			if list, err := a.getPeers(ctx, w); err == nil && !slices.Contains(list, m.self) {
				return true
			}
		}
		if pause(ctx, retryPause/10) != nil {
			return false
		}
	}
}

// witnesses are the executors that have this one as a peer: when they no longer do, the driver has marked it.
func (a *application) witnesses(ctx context.Context, m *member) []java.BlockManagerID {
	a.mu.Lock()
	asks := slices.Clone(a.asks)
	a.mu.Unlock()
	return slices.DeleteFunc(asks, func(ask java.BlockManagerID) bool {
		list, err := a.getPeers(ctx, ask)
		return err != nil || !slices.Contains(list, m.self)
	})
}

// untilKilled is the time for copying. Spark kills a marked executor after
// spark.executor.decommission.forceKillTimeout: copies are to be safe before.
func (a *application) untilKilled(copying *movable) (context.Context, context.CancelFunc) {
	timeout, ok := sparkSeconds(a.props["spark.executor.decommission.forceKillTimeout"])
	if !ok {
		return context.WithCancel(copying)
	}
	at, _ := copying.Deadline()
	for _, m := range a.snapshot() {
		m.mu.Lock()
		if killed := m.toldAt.Add(timeout - min(a.margin, timeout/marginShare)); m.told && killed.Before(at) {
			at = killed
		}
		m.mu.Unlock()
	}
	return context.WithDeadline(copying, at)
}

// sparkSeconds reads a Spark time setting whose unit is seconds when it has none (JavaUtils.timeStringAsSec).
func sparkSeconds(s string) (time.Duration, bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	if s == "" {
		return 0, false
	}
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, false
	}
	units := map[string]time.Duration{
		"": time.Second, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second,
		"m": time.Minute, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	}
	unit, known := units[s[len(digits):]]
	return time.Duration(n) * unit, known && n >= 0
}
