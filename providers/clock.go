package providers

import "time"

// SkewTolerated is how far this node's clock and a service's may differ before a deadline is moved. HTTP's Date has whole
// seconds, and an answer may have been under way for a while: a smaller difference is mostly error of measurement.
const SkewTolerated = 5 * time.Second

// Skew is how far this node's clock is ahead of the service's, in whole seconds: what has to be added to a time that the
// service names. It is 0 within SkewTolerated, and when the service's time is not known (zero).
func Skew(now, service time.Time) time.Duration {
	if service.IsZero() {
		return 0
	}
	ahead := now.Sub(service).Truncate(time.Second)
	if ahead.Abs() < SkewTolerated {
		return 0
	}
	return ahead
}
