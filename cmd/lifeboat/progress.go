package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/lifeboat/lifeboat/agent"
	"github.com/lifeboat/lifeboat/agent/report"
)

// plainEvery is how often a line is written where no terminal is; clearLine empties a terminal's line.
const (
	plainEvery = 5 * time.Second
	clearLine  = "\r\x1b[K"
)

// progress shows how far a rescue is: one line that is rewritten on a terminal, a line now and then
// elsewhere, nothing beside JSON. Logs go through it, so that they do not end in the middle of its line.
type progress struct {
	now func() time.Time
	tty func() (width int, ok bool)

	mu    sync.Mutex
	w     io.Writer
	quiet bool
	drawn bool // the terminal's last line is ours
	last  time.Time
}

func newProgress(w io.Writer, f format) *progress {
	p := &progress{w: w, quiet: f == formatJSON, now: time.Now, tty: func() (int, bool) { return 0, false }}
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.tty = func() (int, bool) {
			width, _, err := term.GetSize(int(file.Fd()))
			return width, err == nil
		}
	}
	p.last = p.now()
	return p
}

func (p *progress) update(s agent.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet {
		return
	}
	line := progressLine(s, p.now())
	if width, ok := p.tty(); ok {
		if width > 1 && len(line) >= width {
			line = line[:width-1]
		}
		fmt.Fprint(p.w, clearLine, line)
		p.drawn = true
		return
	}
	if now := p.now(); now.Sub(p.last) >= plainEvery {
		p.last = now
		fmt.Fprintln(p.w, line)
	}
}

// Write puts log lines above the progress line.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	return p.w.Write(b)
}

// end leaves an empty line on the terminal.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.quiet = true
}

func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.w, clearLine)
		p.drawn = false
	}
}

// progressLine is ASCII only, so that it can be cut anywhere.
func progressLine(s agent.Progress, now time.Time) string {
	line := fmt.Sprintf("%d of %d outputs, %s of %s", s.Saved.Outputs, s.Found.Outputs, report.Bytes(s.Saved.Bytes), report.Bytes(s.Found.Bytes))
	if s.BytesPerSecond > 0 {
		line += fmt.Sprintf(", %s/s, %.0f outputs/s", report.Bytes(int64(s.BytesPerSecond)), s.OutputsPerSecond)
	}
	if s.Lost.Outputs > 0 {
		line += fmt.Sprintf(", %d lost", s.Lost.Outputs)
	}
	if s.Left > 0 {
		line += fmt.Sprintf(", about %s to go", report.Seconds(s.Left.Seconds()))
	}
	if !s.Deadline.IsZero() {
		line += fmt.Sprintf(", deadline in %s", report.Seconds(s.Deadline.Sub(now).Seconds()))
	}
	return line
}
