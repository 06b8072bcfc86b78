// Package kube watches the API server of Kubernetes for what is said about this node and the executors on it: cordon,
// disruption taints, shutdown, evictions and deletions. It is where a rescue on Kubernetes starts when somebody other
// than the cloud takes the node, or a pod from it.
//
// One watch is open for the Node object and one for the executors' pods on it; nothing here grows with the cluster.
// Needed are the verbs list and watch on nodes and pods, for the whole cluster.
package kube

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

// Names of the sources.
const (
	NodeName = "kube-node"
	PodsName = "kube-pods"
)

// What this project's own hand leaves on objects, so that it is not taken for somebody else's notice.
const (
	// OwnTaint is the key of the taint that keeps new pods off a node while it is rescued.
	OwnTaint = "lifeboat.dev/rescue"
	// OwnMark is the annotation of a Node that was cordoned, or a Pod that was deleted, by a rescue.
	OwnMark = "lifeboat.dev/rescue"
)

const (
	// DefaultTimeout of a list, and of the beginning of a watch.
	DefaultTimeout = 10 * time.Second
	// DefaultPing is how long a connection may be quiet before its other end is asked, with an HTTP/2 frame that costs the
	// API server nothing, whether it lives. It has the same time again to answer.
	DefaultPing = 10 * time.Second
	// DefaultSilence is how long a watch may say nothing. The API server sends a bookmark every minute
	// (k8s.io/apiserver, cacher.bookmarkFrequency).
	DefaultSilence = 100 * time.Second
	// DefaultRetry is the longest pause between attempts.
	DefaultRetry = 5 * time.Second
	// DefaultLook is how often health is brought up to date; what a watch says is passed on at once.
	DefaultLook = 2 * time.Second
	// ShutdownLead is what is assumed when the kubelet says that the node shuts down: how long pods have is in its
	// configuration only (shutdownGracePeriod less shutdownGracePeriodCriticalPods). Google Kubernetes Engine gives 15 s on
	// spot nodes, documented in "Spot VMs, termination and graceful shutdown"; others give more.
	ShutdownLead = 15 * time.Second
	// DeletionLead is what is assumed when the Node object is being deleted: Karpenter's finalizer then drains the node
	// (karpenter.sh, "Disruption").
	DeletionLead = 2 * time.Minute

	envNode = "NODE_NAME"

	// maxEnded withdrawals are counted. Almost all ids hold a time, and never come again.
	maxEnded = 1000
)

// Options of both sources. Only Cluster is needed, and Node where the environment does not say it.
type Options struct {
	// Cluster is where the API server is; both sources share one.
	Cluster *Cluster
	// Node is the name of this node's object; "" takes NODE_NAME, which the downward API sets (spec.nodeName).
	Node string
	// Taints come before DisruptionTaints, key by key.
	Taints []Taint
	// OwnTaint and OwnMark are the constants of the same names when empty.
	OwnTaint, OwnMark string
	// ShutdownLead is the constant of the same name when 0.
	ShutdownLead time.Duration
	// Timeout, Silence, Retry and Look are the defaults above when 0.
	Timeout, Silence, Retry, Look time.Duration
	Log                           *zap.Logger
	Metrics                       prometheus.Registerer
}

// check fills in what was left out.
func (o *Options) check(source string) error {
	o.Node = cmp.Or(o.Node, os.Getenv(envNode))
	o.OwnTaint, o.OwnMark = cmp.Or(o.OwnTaint, OwnTaint), cmp.Or(o.OwnMark, OwnMark)
	o.ShutdownLead = cmp.Or(o.ShutdownLead, ShutdownLead)
	o.Timeout, o.Silence = cmp.Or(o.Timeout, DefaultTimeout), cmp.Or(o.Silence, DefaultSilence)
	o.Retry, o.Look = cmp.Or(o.Retry, DefaultRetry), cmp.Or(o.Look, DefaultLook)
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	switch {
	case o.Cluster == nil:
		return fmt.Errorf("%s: no cluster is given", source)
	case o.Node == "":
		return fmt.Errorf("%s: this node's name is not known: set it in the configuration, or set %s from the downward API (spec.nodeName)", source, envNode)
	case min(o.ShutdownLead, o.Timeout, o.Silence, o.Retry, o.Look) < 0:
		return fmt.Errorf("%s: no time may be negative", source)
	}
	for _, t := range o.Taints {
		if err := t.check(); err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
	}
	return nil
}

// source is what both have in common: it keeps the notices of what stands, and withdraws what stands no more.
type source struct {
	*providers.Poller
	name string
	log  *zap.Logger
	// follow keeps a watch until its context ends.
	follow func(ctx context.Context)
	// look returns what stands now, or why that isn't known.
	look func(ctx context.Context) (sight, error)
	// heard is when the API server was heard last.
	heard func() time.Time

	mu       sync.Mutex // of standing: a run may begin while the last poll of another ends
	standing map[string]stood
	recalled []providers.Notice // of an earlier run, until an answer says whether they still stand
	// ended counts withdrawals by id. What comes again and can't be told from what was withdrawn is another event all the same.
	ended map[string]int
}

var _ interface {
	providers.Source
	providers.Sight
	providers.Recaller
} = (*source)(nil)

// start makes the poller. Its polls are looks at what the watch has delivered; wake makes one at once.
func (s *source) start(o Options, wake <-chan struct{}) (err error) {
	s.standing, s.ended = make(map[string]stood), make(map[string]int)
	s.log = o.Log.With(zap.String("source", s.name))
	s.Poller, err = providers.NewPoller(providers.PollerOptions{
		Source: s.name, Poll: s.poll, Interval: o.Look, Timeout: o.Timeout + o.Retry, Wake: wake, Log: o.Log, Metrics: o.Metrics,
	})
	return err
}

// Name of the source.
func (s *source) Name() string { return s.name }

// Run watches until ctx ends; see providers.Source.
func (s *source) Run(ctx context.Context, notices chan<- providers.Notice) error {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.follow(ctx)
	}()
	err := s.Poller.Run(ctx, notices)
	stop()
	<-done
	return err
}

// Recall notes what an earlier run had heard; see providers.Recaller.
func (s *source) Recall(notices []providers.Notice) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recalled = notices
	return true
}

// Health is the state of the watch. The last answer is the last thing that the API server said.
func (s *source) Health() providers.Health {
	h := s.Poller.Health()
	if at := s.heard(); !at.IsZero() {
		h.LastAnswer = at
	}
	return h
}

// sight is what an answer of the API server shows.
type sight struct {
	facts []fact
	skew  time.Duration
	// ended says whether something that stood and is not among the facts was taken back, rather than carried out.
	ended func(identity string) bool
}

// fact is something that stands on an object.
type fact struct {
	identity string // the same as long as it stands
	what     string // a part of the notice's id
	said     string // the other part: what tells this event from the next one of its kind
	kind     providers.Kind
	at       time.Time // when it was said; zero when nothing tells
	ours     bool      // at is by this node's clock
	vague    bool      // at is when the object's fields were written last, maybe for another reason: it counts at first only
	lead     time.Duration
	app      string
	executor string
	// unclear means that it is not known at the moment whether it stands: a notice of it stays as it is.
	unclear bool
	// last is said of an end that is there: a notice of it stays as it is, too, but without one it makes one.
	last bool
}

// poll turns what the watch has delivered into notices.
func (s *source) poll(ctx context.Context) ([]providers.Notice, error) {
	seen, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	s.SetSkew(seen.skew)
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []providers.Notice
	there := make(map[string]bool, len(seen.facts))
	for _, f := range seen.facts {
		before, known := s.standing[f.identity]
		if there[f.identity] || f.unclear && !known {
			continue
		}
		there[f.identity] = true
		if keep := f.unclear || f.last && known; !keep {
			before = s.notice(f, before, seen.skew)
			s.standing[f.identity] = before
		}
		all = append(all, before.notice)
	}
	for identity, before := range s.standing {
		if there[identity] {
			continue
		}
		delete(s.standing, identity)
		if seen.ended(identity) {
			if len(s.ended) >= maxEnded {
				clear(s.ended)
			}
			s.ended[before.id]++
			before.notice.Withdrawn = true
			all = append(all, before.notice)
		}
	}
	all = append(all, s.settleRecalled(all, seen)...)
	slices.SortFunc(all, func(a, b providers.Notice) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// settleRecalled withdraws the notices of an earlier run that were taken back. As long as something is unclear, they hold.
func (s *source) settleRecalled(standing []providers.Notice, seen sight) []providers.Notice {
	unclear := slices.ContainsFunc(seen.facts, func(f fact) bool { return f.unclear })
	var out, held []providers.Notice
	for _, n := range s.recalled {
		switch {
		case slices.ContainsFunc(standing, func(m providers.Notice) bool { return m.ID == n.ID }):
		case unclear:
			held = append(held, n)
		case seen.ended(strings.TrimPrefix(n.ID, s.name+"-")): // the identity of a pod's fact is all of its notice's id
			n.Withdrawn = true
			out = append(out, n)
		}
	}
	s.recalled = held
	return append(out, held...)
}

// notice makes the notice of a fact, or brings the one that was made before up to date. Once made it moves only when
// what was said has moved: neither with this node's clock nor with another measurement of the API server's.
func (s *source) notice(f fact, before stood, skew time.Duration) stood {
	n := before.notice
	if n.ID == "" {
		before.id = s.name + "-" + f.what
		if f.said != "" {
			before.id += "-" + f.said
		}
		n = providers.Notice{ID: before.id, Source: s.name, Kind: f.kind, App: f.app, Seen: time.Now()}
		if times := s.ended[before.id]; times > 0 {
			n.ID += "-" + strconv.Itoa(times+1)
		}
		if f.executor != "" {
			n.Executors = []string{f.executor}
		}
		n.Deadline = n.Seen.Add(f.lead)
	} else if f.vague || f.at.Equal(before.at) && f.lead == before.lead {
		return before
	}
	if !f.at.IsZero() {
		n.Deadline = f.at.Add(f.lead)
		if !f.ours {
			n.Deadline = n.Deadline.Add(skew)
		}
	}
	return stood{notice: n, id: before.id, at: f.at, lead: f.lead}
}

// stood is a notice and what its deadline rests on.
type stood struct {
	notice providers.Notice
	id     string // without the count of an event that came again
	at     time.Time
	lead   time.Duration
}

// errNoAnswer is what is known before the first answer.
var errNoAnswer = failed(providers.Timeout, "the API server has not answered yet")
