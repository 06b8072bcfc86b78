package kube

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/providers/kube"
)

func claim(name, path string) kube.ClaimMount { return kube.ClaimMount{Claim: name, Path: path} }

func TestClaimsOfLocalDirs(t *testing.T) {
	const at = "/data/spark-x/executor-x"
	for name, tt := range map[string]struct {
		dirs   []string
		mounts []string // that are no claims
		claims []kube.ClaimMount
		want   []string
		whole  bool
	}{
		"as Spark mounts it":                 {[]string{at}, nil, []kube.ClaimMount{claim("a", at)}, []string{"a"}, true},
		"mounted further up":                 {[]string{at + "/work"}, nil, []kube.ClaimMount{claim("a", "/data/")}, []string{"a"}, true},
		"dependencies beside it":             {[]string{at}, nil, []kube.ClaimMount{claim("deps", "/deps"), claim("a", at)}, []string{"a"}, true},
		"dependencies below it":              {[]string{at}, nil, []kube.ClaimMount{claim("deps", at+"/deps")}, nil, false},
		"a name that only begins the same":   {[]string{"/data-2"}, nil, []kube.ClaimMount{claim("a", "/data")}, nil, false},
		"covered by a scratch volume":        {[]string{"/data/scratch"}, []string{"/data/scratch"}, []kube.ClaimMount{claim("a", "/data")}, nil, false},
		"covered by another claim":           {[]string{at}, nil, []kube.ClaimMount{claim("up", "/data"), claim("a", at)}, []string{"a"}, true},
		"several dirs":                       {[]string{"/d1", "/d2"}, nil, []kube.ClaimMount{claim("a", "/d1"), claim("b", "/d2")}, []string{"a", "b"}, true},
		"several dirs on one":                {[]string{"/d/1", "/d/2"}, nil, []kube.ClaimMount{claim("a", "/d")}, []string{"a"}, true},
		"one of two":                         {[]string{"/d1", "/d2"}, []string{"/d2"}, []kube.ClaimMount{claim("a", "/d1")}, []string{"a"}, false},
		"can't be written":                   {[]string{at}, nil, []kube.ClaimMount{{Claim: "a", Path: at, ReadOnly: true}}, nil, false},
		"nothing is known of the local dirs": {nil, nil, []kube.ClaimMount{claim("a", at)}, nil, false},
		"the root":                           {[]string{"/tmp"}, nil, []kube.ClaimMount{claim("a", "/")}, []string{"a"}, true},
	} {
		p := kube.Pod{LocalDirs: tt.dirs, Claims: tt.claims, Mounts: tt.mounts}
		for _, c := range tt.claims {
			p.Mounts = append(p.Mounts, c.Path)
		}
		got, whole := LocalClaims(p)
		var names []string
		for _, c := range got {
			names = append(names, c.Claim)
		}
		if !slices.Equal(names, tt.want) || whole != tt.whole {
			t.Errorf("%s: %v, whole: %v; want %v, %v", name, names, whole, tt.want, tt.whole)
		}
	}
}

func TestFormatOutputs(t *testing.T) {
	out := func(shuffle int, maps ...int64) (all []migrate.OutputID) {
		for _, m := range maps {
			all = append(all, migrate.OutputID{App: "a", Shuffle: shuffle, Map: m})
		}
		return all
	}
	for want, ids := range map[string][]migrate.OutputID{
		"":              nil,
		"0:7":           out(0, 7),
		"0:0-2,5;3:1":   slices.Concat(out(3, 1), out(0, 5, 2, 0, 1, 1)),
		"0:3;1:4-5;2:6": slices.Concat(out(0, 3), out(1, 4, 5), out(2, 6)),
	} {
		if got, cut := FormatOutputs(ids); got != want || cut {
			t.Errorf("%q, %v; want %q", got, cut, want)
		}
	}
	var many []migrate.OutputID
	for i := range int64(100_000) {
		many = append(many, out(1, i*2)...)
	}
	list, cut := FormatOutputs(many)
	if !cut || len(list) > maxOutputs || len(list) < maxOutputs-20 || !strings.HasPrefix(list, "1:0,2,4") {
		t.Errorf("%d bytes, cut: %v", len(list), cut)
	}
}

const claimURL, volumeURL = "/api/v1/namespaces/spark/persistentvolumeclaims/pvc-0", "/api/v1/persistentvolumes/pv-0"

// store is an API server with one claim, its volume and the driver's pod.
type store struct {
	api
	claim    claimObject
	volume   volumeObject
	driver   types.UID // "": there is none
	conflict int       // so many patches fail
	strict   bool      // an owner may not be set
}

func newStore() *store {
	s := &store{driver: "driver-uid"}
	s.claim.Metadata = metav1.ObjectMeta{
		Name: "pvc-0", Namespace: "spark", UID: "claim-uid", ResourceVersion: "7", Labels: map[string]string{kube.LabelApp: "app", "team": "x"},
	}
	s.claim.Spec.VolumeName = "pv-0"
	s.answer = s.serve
	return s
}

func (s *store) owned() *store {
	s.claim.Metadata.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "driver", UID: s.driver}}
	return s
}

func (s *store) tied(node string) *store {
	s.volume.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
		{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}},
	}}}
	return s
}

func (s *store) serve(r kube.Request) (any, error) {
	switch {
	case r.Method == "GET" && r.Path == claimURL:
		return s.claim, nil
	case r.Method == "GET" && r.Path == volumeURL:
		return s.volume, nil
	case r.Method == "GET" && s.driver != "":
		return map[string]any{"metadata": metav1.ObjectMeta{UID: s.driver}}, nil
	case r.Method == "GET":
		return nil, refuses(404)
	case s.conflict > 0:
		s.conflict--
		return nil, refuses(409)
	}
	patch := r.In.(map[string]any)["metadata"].(map[string]any)
	if _, owner := patch["ownerReferences"]; owner && s.strict {
		return nil, refuses(403)
	}
	return nil, s.apply(patch)
}

// apply is a merge patch.
func (s *store) apply(patch map[string]any) error {
	m := &s.claim.Metadata
	if patch["uid"] != m.UID || patch["resourceVersion"] != m.ResourceVersion {
		return refuses(409)
	}
	merge := func(into *map[string]string, what any) {
		all := maps.Clone(*into)
		if all == nil {
			all = map[string]string{}
		}
		for k, v := range what.(map[string]any) {
			if v == nil {
				delete(all, k)
			} else {
				all[k] = v.(string)
			}
		}
		*into = all
	}
	merge(&m.Labels, patch["labels"])
	merge(&m.Annotations, patch["annotations"])
	if owners, has := patch["ownerReferences"]; has {
		m.OwnerReferences = owners.([]metav1.OwnerReference)
	}
	return nil
}

func (s *store) writes() (n int) {
	for _, r := range s.asked {
		if r.Method != "GET" {
			n++
		}
	}
	return n
}

func aMark() ClaimMark {
	return ClaimMark{
		Namespace: "spark", Claim: "pvc-0", App: "app", Executor: "3", Driver: kube.OwnerRef{Kind: "Pod", Name: "driver", UID: "driver-uid"},
		Report: "r1", Node: "node-a", At: time.Now(), Outputs: "0:1-3", Complete: true, Hide: true,
	}
}

func TestClaimIsMarked(t *testing.T) {
	s, m := newStore(), aMark()
	if hidden, err := m.mark(t.Context(), s); err != nil || hidden {
		t.Fatalf("hidden: %v, %v", hidden, err)
	}
	meta := s.claim.Metadata
	if meta.Labels[kube.ClaimExecutor] != "3" || meta.Labels[kube.ClaimState] != kube.StateComplete || meta.Labels[kube.LabelApp] != "app" || meta.Labels["team"] != "x" {
		t.Errorf("labels %v", meta.Labels)
	}
	if a := meta.Annotations; a[kube.ClaimOutputs] != "0:1-3" || a[kube.ClaimMarkedBy] != "node-a" || a[kube.ClaimReport] != "r1" || a[kube.ClaimMarkedAt] == "" {
		t.Errorf("annotations %v", a)
	}
	if o := meta.OwnerReferences; len(o) != 1 || o[0].UID != "driver-uid" || o[0].Controller == nil || !*o[0].Controller {
		t.Errorf("owners %+v", o)
	}
	if m.UID != "claim-uid" {
		t.Errorf("the claim's uid is not kept: %q", m.UID)
	}
}

// TestOnlyWhatIsCertainIsWritten: what has an owner is deleted with it, and what is hidden nobody else finds.
func TestOnlyWhatIsCertainIsWritten(t *testing.T) {
	for name, tt := range map[string]struct {
		store  *store
		change func(s *store, m *ClaimMark)
		want   error // of the mark
		owners int
		hidden bool
	}{
		"tied to this node":         {newStore().owned().tied("node-a"), nil, nil, 1, true},
		"tied, owner comes with it": {newStore().tied("node-a"), nil, nil, 1, true},
		"tied to another node":      {newStore().owned().tied("node-b"), nil, nil, 1, false},
		"can move":                  {newStore().owned(), nil, nil, 1, false},
		"Spark waits for it":        {newStore().owned().tied("node-a"), func(_ *store, m *ClaimMark) { m.Hide = false }, nil, 1, false},
		"driver has gone":           {newStore().tied("node-a"), func(s *store, _ *ClaimMark) { s.driver = "" }, nil, 0, false},
		"another driver":            {newStore().tied("node-a"), func(s *store, _ *ClaimMark) { s.driver = "new" }, nil, 0, false},
		"driver outside a pod":      {newStore().tied("node-a"), func(_ *store, m *ClaimMark) { m.Driver = kube.OwnerRef{} }, nil, 0, false},
		"made by a person":          {newStore().tied("node-a"), func(s *store, _ *ClaimMark) { s.claim.Metadata.Labels = nil }, nil, 0, false},
		"a part of a person's":      {newStore(), func(s *store, m *ClaimMark) { s.claim.Metadata.Labels, m.Part = nil, true }, errPointless, 0, false},
		"of another application":    {newStore(), func(_ *store, m *ClaimMark) { m.App = "other" }, errStrange, 0, false},
		"another one of its name":   {newStore(), func(_ *store, m *ClaimMark) { m.UID = "before" }, errPointless, 0, false},
		"is being deleted":          {newStore(), func(s *store, _ *ClaimMark) { s.claim.Metadata.DeletionTimestamp = &metav1.Time{Time: time.Now()} }, errPointless, 0, false},
		"changes twice meanwhile":   {newStore().owned().tied("node-a"), func(s *store, _ *ClaimMark) { s.conflict = 2 }, nil, 1, true},
		"changes all the time":      {newStore().owned(), func(s *store, _ *ClaimMark) { s.conflict = 99 }, kube.ErrConflict, 1, false},
		"no permission for volumes": {newStore().owned().tied("node-a"), func(s *store, _ *ClaimMark) { s.answer = s.without(volumeURL, 403) }, nil, 1, false},
		"volume is not to be had":   {newStore().owned().tied("node-a"), func(s *store, _ *ClaimMark) { s.answer = s.without(volumeURL, 500) }, kube.ErrAway, 1, false},
		"has gone":                  {newStore(), func(s *store, _ *ClaimMark) { s.answer = s.without(claimURL, 404) }, kube.ErrNotFound, 0, false},
		"is hidden from before":     {newStore().owned().tied("node-a"), func(s *store, m *ClaimMark) { _, _ = m.mark(t.Context(), s) }, nil, 1, true},
		"an owner can't be set":     {newStore().tied("node-a"), func(s *store, _ *ClaimMark) { s.strict = true }, nil, 0, false},
		"has no volume yet":         {newStore().owned().tied("node-a"), func(s *store, _ *ClaimMark) { s.claim.Spec.VolumeName = "" }, nil, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, m := tt.store, aMark()
			if tt.change != nil {
				tt.change(s, &m)
			}
			hidden, err := m.mark(t.Context(), s)
			if !errors.Is(err, tt.want) || hidden != tt.hidden {
				t.Fatalf("hidden: %v, %v; want %v, %v", hidden, err, tt.hidden, tt.want)
			}
			_, shown := s.claim.Metadata.Labels[kube.LabelApp]
			if _, there := s.claim.Metadata.Annotations[kube.HiddenSelector]; there != tt.hidden || shown == tt.hidden && !strings.Contains(name, "person") {
				t.Errorf("%+v", s.claim.Metadata)
			}
			if len(s.claim.Metadata.OwnerReferences) != tt.owners {
				t.Errorf("owners %+v", s.claim.Metadata.OwnerReferences)
			}
			if marked := s.claim.Metadata.Labels[kube.ClaimState] != ""; marked != (tt.want == nil) {
				t.Errorf("marked: %v", marked)
			}
		})
	}
}

// without is the store when one path is answered with an error.
func (s *store) without(path string, code int) func(r kube.Request) (any, error) {
	return func(r kube.Request) (any, error) {
		if r.Path == path {
			return nil, refuses(code)
		}
		return s.serve(r)
	}
}

func TestVolumeThatCanNotLeave(t *testing.T) {
	in := func(key string, nodes ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: nodes}}}
	}
	zone := in(corev1.LabelTopologyZone, "zone-1").MatchExpressions[0]
	for name, tt := range map[string]struct {
		terms []corev1.NodeSelectorTerm
		want  bool
	}{
		"by host name":         {[]corev1.NodeSelectorTerm{in(corev1.LabelHostname, "node-a")}, true},
		"by a driver's key":    {[]corev1.NodeSelectorTerm{in("topology.example.com/node", "node-a")}, true},
		"and a zone":           {[]corev1.NodeSelectorTerm{{MatchExpressions: append([]corev1.NodeSelectorRequirement{zone}, in(corev1.LabelHostname, "node-a").MatchExpressions...)}}, true},
		"a zone only":          {[]corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{zone}}}, false},
		"two nodes":            {[]corev1.NodeSelectorTerm{in(corev1.LabelHostname, "node-a", "node-b")}, false},
		"either of two":        {[]corev1.NodeSelectorTerm{in(corev1.LabelHostname, "node-a"), in(corev1.LabelHostname, "node-b")}, false},
		"no terms":             {nil, false},
		"anywhere but on this": {[]corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpNotIn, Values: []string{"node-a"}}}}}, false},
		"by the node's name": {[]corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
			{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"node-a"}},
		}}}, true},
	} {
		var v volumeObject
		v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: tt.terms}}
		if got := v.tied("node-a"); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestMachineComesBack: what was hidden is offered again by an agent that finds its own state on a machine that was started
// anew, if the volume's folder is still there.
func TestMachineComesBack(t *testing.T) {
	for name, tt := range map[string]struct {
		reboot, disk, stranger bool
		want                   bool
	}{
		"with its disk":        {reboot: true, disk: true, want: true},
		"with an empty disk":   {reboot: true},
		"it never went":        {disk: true},
		"hidden by a stranger": {reboot: true, disk: true, stranger: true},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			s := newStore().owned().tied("node-a")
			s.volume.Spec.Local = &corev1.LocalVolumeSource{Path: "/mnt/disk-1"}
			first := tellerFor(t, s, state)
			boot(t, first, "boot-1")
			if err := first.markClaim(aMark()).await(t.Context()); err != nil {
				t.Fatal(err)
			}
			if tt.stranger {
				s.claim.Metadata.Annotations[kube.ClaimMarkedBy] = "node-b"
			}
			second := tellerFor(t, s, state)
			boot(t, second, "boot-1")
			if tt.reboot {
				boot(t, second, "boot-2")
			}
			if tt.disk {
				if err := os.MkdirAll(filepath.Join(second.proc, "1", "root", "mnt", "disk-1"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			second.takeUp()
			second.later.close(t.Context())
			if shown := s.claim.Metadata.Labels[kube.LabelApp] == "app"; shown != tt.want {
				t.Errorf("offered again: %v; %+v", shown, s.claim.Metadata)
			}
			if left := len(second.book.all()); (left == 0) != tt.reboot {
				t.Errorf("%d claims are remembered", left)
			}
		})
	}
}

func boot(t *testing.T, on *teller, id string) {
	t.Helper()
	on.book.boot = id
}

// TestNextRunMarksWhatWasNotTaken, once: an agent that was killed before the API server was back leaves that to the next.
func TestNextRunMarksWhatWasNotTaken(t *testing.T) {
	state := t.TempDir()
	away := &api{answer: func(kube.Request) (any, error) { return nil, errAway }}
	first := tellerFor(t, away, state)
	task := first.markClaim(aMark())
	first.later.end() // it is killed
	<-task.over

	s := newStore()
	second := tellerFor(t, s, state)
	second.takeUp()
	second.later.close(t.Context())
	if s.claim.Metadata.Labels[kube.ClaimState] != kube.StateComplete || s.writes() != 1 {
		t.Errorf("%d writes; %+v", s.writes(), s.claim.Metadata)
	}
	third := tellerFor(t, s, state)
	third.takeUp()
	third.later.close(t.Context())
	if s.writes() != 1 {
		t.Error("it was marked again")
	}
}

func TestNodeThatStaysOffersWhatItHid(t *testing.T) {
	s := newStore().owned().tied("node-a")
	k := tellerFor(t, s, t.TempDir())
	if err := k.markClaim(aMark()).await(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.offerAll()
	k.later.close(t.Context())
	if s.claim.Metadata.Labels[kube.LabelApp] != "app" || s.claim.Metadata.Annotations[kube.HiddenSelector] != "" {
		t.Errorf("%+v", s.claim.Metadata)
	}
}

func TestDamagedBook(t *testing.T) {
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, BookFile), []byte(`{"spark/a": {"namespace": "spark", "claim": "b"}, "spark/`), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := openBook(state, "boot")
	if err == nil || len(b.all()) != 0 {
		t.Errorf("%v, %+v", err, b.all())
	}
	for i := range maxBooked + 10 {
		m := aMark()
		m.Claim, m.At = "c"+string(rune('0'+i%10))+strings.Repeat("x", i), time.Now().Add(time.Duration(i)*time.Millisecond)
		if err := b.put(m, true, false); err != nil {
			t.Fatal(err)
		}
	}
	if all := b.all(); len(all) != maxBooked {
		t.Errorf("%d claims are remembered", len(all))
	}
}
