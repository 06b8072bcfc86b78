package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"
)

// What the agent logs when a rescue's journal is on disk, and when its report is.
const (
	sayBegins = "rescue begins"
	sayEnded  = "rescue ended"
)

// said is a line of the agent's log that is waited for.
type said struct {
	what    string
	notices []string
	at      time.Time
}

// listener is a log that passes these lines on, and keeps the last ones of all.
type listener struct {
	said chan said

	mu   sync.Mutex
	last []string
}

// kept lines, to explain what went wrong.
const kept = 12

// Enabled is part of zapcore.Core.
func (l *listener) Enabled(level zapcore.Level) bool { return level >= zapcore.InfoLevel }

// With is part of zapcore.Core. The fields of a logger are of no interest.
func (l *listener) With([]zapcore.Field) zapcore.Core { return l }

// Check is part of zapcore.Core.
func (l *listener) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if l.Enabled(e.Level) {
		return c.AddCore(e, l)
	}
	return c
}

// Write is part of zapcore.Core.
func (l *listener) Write(e zapcore.Entry, fields []zapcore.Field) error {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(encoder)
	}
	l.mu.Lock()
	l.last = append(l.last, fmt.Sprintf("%s %s %v", e.Time.Format("15:04:05.000"), e.Message, encoder.Fields))
	l.last = l.last[max(0, len(l.last)-kept):]
	l.mu.Unlock()
	if e.Message != sayBegins && e.Message != sayEnded {
		return nil
	}
	select {
	case l.said <- said{e.Message, words(encoder.Fields["notice"], encoder.Fields["notices"]), e.Time}:
	default: // nobody waits for so many; the agent must not be held up
	}
	return nil
}

// words are the texts among some values, and those in lists of them.
func words(values ...any) []string {
	var list []string
	for _, v := range values {
		switch v := v.(type) {
		case string:
			list = append(list, v)
		case []any:
			list = append(list, words(v...)...)
		}
	}
	return list
}

// Sync is part of zapcore.Core.
func (l *listener) Sync() error { return nil }

// hear waits until the agent's log says this, about this notice.
func (l *listener) hear(ctx context.Context, what, notice string) (time.Time, error) {
	for {
		select {
		case s := <-l.said:
			if s.what == what && (notice == "" || slices.Contains(s.notices, notice)) {
				return s.at, nil
			}
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("the agent's log does not say %q of %q: %w; its last lines:\n%s", what, notice, ctx.Err(), l.tail())
		}
	}
}

// tail is the end of the log.
func (l *listener) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.last, "\n")
}
