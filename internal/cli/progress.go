package cli

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/polargo/polar/run"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// plainEvery is the least time between two lines of progress where no terminal shows a bar.
const plainEvery = 5 * time.Second

// progress shows a run's events on standard error: a bar on a terminal, lines elsewhere. Events and finish come from one
// goroutine.
type progress struct {
	out     io.Writer
	look    style
	quiet   bool
	label   string // put before plain lines, for several runs in a row
	started string // last preparation shown
	last    time.Time
	now     func() time.Time

	bars *mpb.Progress
	bar  *mpb.Bar
	text atomic.Pointer[string] // right of the bar; read by the bar's goroutine
}

func (p *program) newProgress(quiet bool) *progress {
	return &progress{out: p.stderr, look: p.styleOf(p.stderr), quiet: quiet, now: time.Now}
}

// event shows one event; it is a run.Sink.
func (p *progress) event(event run.Event) {
	if note, ok := event.(run.Note); ok && note.Warning {
		p.print("warning: " + oneLine(note.Text))
		return
	}
	if p.quiet {
		return
	}
	switch e := event.(type) {
	case run.Note:
		p.print(oneLine(e.Text))
	case run.Progress:
		p.preparing(e)
	case run.StepDone:
		p.step(e)
	case run.EvalDone:
		best := ""
		if e.Best && e.Step > 0 {
			best = ", the best so far"
		}
		p.print(fmt.Sprintf("step %d  validation loss %.4f%s  (%s)", e.Step, e.ValidationLoss, best, span(seconds(e.Seconds))))
	case run.InvarianceChecked:
		p.print(fmt.Sprintf("step %d  invariance: worst drift %.1e of %d layers, %.1e in float64  (%s)", e.Step, e.Drift, e.Layers, e.DriftFloat64, span(seconds(e.Seconds))))
	case run.Sampled:
		p.print(fmt.Sprintf("step %d  sample:\n%s", e.Step, indent(printable(e.Prompt+e.Text), "  | ")))
	}
}

// print writes a line above the bar, or after the lines before.
func (p *progress) print(text string) {
	out := p.out
	if p.bars != nil {
		out = p.bars
	} else if p.started != "" && p.look.terminal {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
		p.started = ""
	}
	_, _ = io.WriteString(out, p.label+withoutSecrets(text)+"\n")
}

// preparing shows how far a preparation is: beside the bar where there is one, in a rewritten line on a terminal, one line
// for each thing elsewhere.
func (p *progress) preparing(e run.Progress) {
	if !p.look.terminal {
		if p.started != e.What {
			p.started = e.What
			p.print(e.What + " …")
		}
		return
	}
	if p.started == e.What && p.now().Sub(p.last) < 100*time.Millisecond {
		return
	}
	share := ""
	if e.Total > 0 {
		share = fmt.Sprintf(" %d %%", 100*e.Done/e.Total)
	}
	if p.bars != nil { // the bar's goroutine writes to the terminal
		text := e.What + " …" + share
		p.text.Store(&text)
		return
	}
	p.started, p.last = e.What, p.now()
	_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s%s …%s", p.label, e.What, share)
}

// step shows an optimizer step.
func (p *progress) step(e run.StepDone) {
	figures := fmt.Sprintf("loss %.4f  %.0f tokens/s  %s left", e.Loss, e.TokensPerSecond, span(e.Remaining))
	if p.look.terminal {
		p.startBar(e)
		p.text.Store(&figures)
		p.bar.SetCurrent(int64(e.Step))
		return
	}
	if now := p.now(); p.last.IsZero() || now.Sub(p.last) >= plainEvery || e.Step == e.Steps {
		p.last = now
		p.print(fmt.Sprintf("step %d/%d  %s  rate %.3g", e.Step, e.Steps, figures, e.LearningRate))
	}
}

// startBar opens the bar at the first step.
func (p *progress) startBar(e run.StepDone) {
	if p.bars != nil {
		return
	}
	if p.started != "" {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
		p.started = ""
	}
	p.bars = mpb.New(mpb.WithOutput(p.out), mpb.WithWidth(30), mpb.WithAutoRefresh(), mpb.WithRefreshRate(150*time.Millisecond))
	p.bar = p.bars.AddBar(0, // a bar that completes by itself would swallow the lines that follow
		mpb.PrependDecorators(decor.Name(p.label), decor.CountersNoUnit("step %d/%d ")),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			if text := p.text.Load(); text != nil {
				return " " + *text
			}
			return ""
		})),
	)
	p.bar.SetTotal(int64(e.Steps), false)
}

// finish takes the bar or the rewritten line away. It may be called more than once, and between two runs.
func (p *progress) finish() {
	if p.bars != nil {
		p.bar.Abort(true)
		p.bars.Wait()
		p.bars, p.bar = nil, nil
	}
	if p.started != "" && p.look.terminal {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
	}
	p.started, p.last = "", time.Time{}
}

// heading writes a line that begins a part of a command with several parts.
func (p *progress) heading(format string, args ...any) {
	if !p.quiet {
		p.print(strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}
