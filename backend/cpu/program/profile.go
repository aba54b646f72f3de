package program

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Profile adds up the time of steps by what they do. It is safe for concurrent use.
type Profile struct {
	mu    sync.Mutex
	times map[string]*entry
}

type entry struct {
	name  string
	count int
	total time.Duration
}

// SetProfile makes the engine's runs report to p, nil for none. Runs that have begun may still report to the one before.
func (e *Engine) SetProfile(p *Profile) { e.profile.Store(p) }

func (p *Profile) add(name string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.times == nil {
		p.times = map[string]*entry{}
	}
	e := p.times[name]
	if e == nil {
		e = &entry{name: name}
		p.times[name] = e
	}
	e.count++
	e.total += d
}

// Write lists the steps, those that took most first, at most lines of them.
func (p *Profile) Write(w io.Writer, lines int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*entry
	var total time.Duration
	for _, e := range p.times {
		all = append(all, e)
		total += e.total
	}
	slices.SortFunc(all, func(a, b *entry) int {
		if a.total != b.total {
			return int(b.total - a.total)
		}
		return strings.Compare(a.name, b.name)
	})
	fmt.Fprintf(w, "%10s %6s %7s  step\n", "ms", "share", "runs")
	for _, e := range all[:min(lines, len(all))] {
		fmt.Fprintf(w, "%10.3f %5.1f%% %7d  %s\n", 1e3*e.total.Seconds(), 100*e.total.Seconds()/total.Seconds(), e.count, e.name)
	}
	fmt.Fprintf(w, "%10.3f in all\n", 1e3*total.Seconds())
}
