package gcp

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// upcoming is the document instance/upcoming-maintenance ("Monitor and plan for a host maintenance
// event"). Machine types without a maintenance schedule, and those with nothing planned, show none.
type upcoming struct {
	start, end time.Time // end may be zero
	status     string    // as PENDING or ONGOING
}

// document has the names that the metadata uses, and those of the API, which some variants show.
type document struct {
	Start       string `json:"window_start_time"`
	StartAPI    string `json:"windowStartTime"`
	End         string `json:"window_end_time"`
	EndAPI      string `json:"windowEndTime"`
	Status      string `json:"maintenance_status"`
	StatusAPI   string `json:"maintenanceStatus"`
	Wrapped     *inner `json:"upcoming_maintenance"`
	WrappedAPI  *inner `json:"upcomingMaintenance"`
	WrappedText *inner `json:"Upcoming maintenance"`
}

type inner document

// decodeUpcoming reads the document; ok is false when it shows no event. Unknown fields and an unknown
// status are fine.
func decodeUpcoming(body string) (u upcoming, ok bool, err error) {
	body = strings.TrimSpace(body)
	if body == "" || strings.Trim(body, `"`) == "NONE" {
		return u, false, nil
	}
	var d document
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		return u, false, err
	}
	if w := cmp.Or(d.Wrapped, d.WrappedAPI, d.WrappedText); w != nil {
		d = document(*w)
	}
	start := cmp.Or(d.Start, d.StartAPI)
	u.status = strings.ToUpper(cmp.Or(d.Status, d.StatusAPI))
	if start == "" {
		if body[0] != '{' || u.status != "" && u.status != "COMPLETE" {
			return u, false, fmt.Errorf("no window_start_time in %.80q", body)
		}
		return u, false, nil
	}
	if u.start, err = time.Parse(time.RFC3339, start); err != nil || u.start.Year() < 2000 {
		return u, false, fmt.Errorf("window_start_time %.40q is no time", start)
	}
	u.start = u.start.UTC()
	if end, err := time.Parse(time.RFC3339, cmp.Or(d.End, d.EndAPI)); err == nil {
		u.end = end.UTC()
	}
	return u, u.status != "COMPLETE", nil
}

// nothingUpcoming reads the body of a 503: that is how the server says that it has nothing to show, with
// {"error": "no notifications have been received yet, try again later"}. said is true when it is that
// very text, so that an event that was shown before has ended; other words only mean that there is
// nothing to read.
func nothingUpcoming(body []byte) (none, said bool) {
	var d struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &d) != nil || d.Error == "" {
		return false, false
	}
	return true, strings.Contains(strings.ToLower(d.Error), "no notification")
}
