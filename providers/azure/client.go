package azure

import (
	"cmp"
	"context"
	"net/http"
	"regexp"
	"time"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/metadata"
)

const (
	eventsItem = "/metadata/scheduledevents?api-version=2020-07-01"
	// Single values, because the whole document holds what users put there (tags, user data), without
	// a bound that we know.
	nameItem  = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
	cloudItem = "/metadata/instance/compute/azEnvironment?api-version=2021-02-01&format=text"
)

// header is what every request must have; without it Azure refuses it with a 400.
func header() http.Header { return http.Header{"Metadata": {"true"}} }

// Detect says whether this machine runs on Azure: whether a metadata service at the endpoint
// (DefaultEndpoint when "") names the Azure cloud that it belongs to. One request; ctx limits it. It
// does not switch scheduled events on.
func Detect(ctx context.Context, endpoint string) bool {
	// AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud, AzureGermanCloud.
	return metadata.Identifies(ctx, cmp.Or(endpoint, DefaultEndpoint), func(ctx context.Context, c *metadata.Client) (metadata.Answer, error) {
		return c.Get(ctx, cloudItem, header())
	}, regexp.MustCompile(`^Azure[A-Za-z]*Cloud$`))
}

// name returns the name of this machine. It is asked until it is known, and then never again: it can't
// change while the machine exists.
func (s *Events) name(ctx context.Context) (string, error) {
	s.mu.Lock()
	vm := s.vm
	s.mu.Unlock()
	if vm != "" {
		return vm, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	a, err := s.client.Get(ctx, nameItem, header())
	if err != nil {
		return "", err
	}
	// Names of machines have letters, digits and a few signs; the rules differ between kinds.
	if !a.Found() || !regexp.MustCompile(`^[\w.()-]{1,256}$`).Match(a.Body) {
		return "", metadata.Failed(providers.Malformed, "the service does not know this machine's name (%d), so no event can be matched with it; set providers.azure.vmName", a.Status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vm = string(a.Body)
	return s.vm, nil
}

// look reads the document, with patience until it was answered for the first time.
func (s *Events) look(ctx context.Context) (document, time.Time, error) {
	s.mu.Lock()
	known := s.first == done
	if s.first == before {
		s.first = pending
	}
	s.mu.Unlock()
	if known {
		return s.read(ctx)
	}
	doc, date, err := s.patient(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = done
	if err != nil {
		s.first = failed
	}
	return doc, date, err
}

// patient waits for the answer to one call for as long as the first one may take. Meanwhile it asks
// again and again as usual: where the events are switched on already, such as after a restart of the
// agent, one request that got lost must not make the source blind for minutes.
func (s *Events) patient(ctx context.Context) (document, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.FirstTimeout)
	defer cancel()
	type result struct {
		doc  document
		date time.Time
		err  error
	}
	long, short := make(chan result, 1), make(chan result, 1)
	ask := func(to chan<- result, read func(context.Context) (document, time.Time, error)) {
		doc, date, err := read(ctx)
		to <- result{doc, date, err}
	}
	go ask(long, s.request)
	again := time.NewTimer(s.o.Timeout)
	defer again.Stop()
	for {
		select {
		case r := <-long:
			return r.doc, r.date, r.err
		case r := <-short:
			if r.err == nil {
				return r.doc, r.date, nil
			}
			again.Reset(s.o.Interval)
		case <-again.C:
			go ask(short, s.read)
		}
	}
}

// read reads the document within the usual time.
func (s *Events) read(ctx context.Context) (document, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	return s.request(ctx)
}

// request reads the document, and the service's clock.
func (s *Events) request(ctx context.Context) (document, time.Time, error) {
	a, err := s.client.Get(ctx, eventsItem, header())
	if err != nil {
		return document{}, time.Time{}, err
	}
	if !a.Found() {
		return document{}, a.Date, metadata.Failed(providers.Status, "GET /metadata/scheduledevents: %d: this service has no scheduled events; is this machine on Azure?", a.Status)
	}
	doc, err := decodeDocument(a.Body)
	if err != nil {
		return document{}, a.Date, metadata.Failed(providers.Malformed, "%w", err)
	}
	return doc, a.Date, nil
}
