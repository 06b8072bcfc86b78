package aws

import (
	"encoding/json"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
)

// RebalanceName is the name of the source of rebalance recommendations.
const RebalanceName = "aws-rebalance"

// RebalanceInterval between polls, as AWS advises.
const RebalanceInterval = 5 * time.Second

// rebalanceItem is documented in the EC2 user guide, "EC2 instance rebalance recommendations":
// {"noticeTime": "2020-10-27T08:22:00Z"}, or 404.
const rebalanceItem = "events/recommendations/rebalance"

// NewRebalance makes the source of recommendations to leave a spot instance whose interruption has become more
// likely. It opens no connection. The error is ErrDisabled when the environment forbids to ask.
//
// Nothing is promised about an end. The deadline is the earliest possible one: the recommendation may arrive
// together with the notice of an interruption, which leaves Options.Lead from then on. It is often past while the
// instance lives on, and it is no reason to end anything.
//
// It never withdraws a notice: AWS does not document that a recommendation ends.
func NewRebalance(o Options) (*Source, error) {
	s, err := newSource(RebalanceName, rebalanceItem, RebalanceInterval, o)
	if err != nil {
		return nil, err
	}
	s.read = s.readRebalance
	return s, nil
}

func (s *Source) readRebalance(a answer, now time.Time) ([]providers.Notice, error) {
	if !a.found {
		return nil, nil
	}
	r, err := decodeRecommendation(a.body)
	if err != nil {
		return nil, err
	}
	e := event{id: []string{orAsSaid(r.at, r.NoticeTime)}, kind: providers.Rebalance, at: r.at, lead: s.o.Lead, said: r.NoticeTime}
	if r.at.IsZero() {
		s.once("time "+limited(r.NoticeTime), "the recommendation's time can't be read; it counts from now", zap.String("time", limited(r.NoticeTime)))
	}
	return []providers.Notice{s.notice(e, a, now)}, nil
}

// recommendation is the document events/recommendations/rebalance.
type recommendation struct {
	NoticeTime string `json:"noticeTime"`

	at time.Time // NoticeTime, or zero when it can't be read
}

// decodeRecommendation reads the document; one without a noticeTime is about something else.
func decodeRecommendation(body []byte) (recommendation, error) {
	var r recommendation
	if err := json.Unmarshal(body, &r); err != nil {
		return recommendation{}, err
	}
	if r.NoticeTime == "" {
		return recommendation{}, errors.New("no noticeTime in the document")
	}
	r.at = moment(time.RFC3339, r.NoticeTime)
	return r, nil
}
