package recipe

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/gomlx/compute"
	"github.com/polargo/polar/backend"
)

// Options says what to run and where.
type Options struct {
	// Recipe is what Find returned.
	Recipe Recipe
	Size   Size
	// Seeds is the number of seeds, from 0 on; 0 takes the recipe's. A folder can be run again with more.
	Seeds int
	// Out is the folder of the experiment. Trials that are finished there are not computed again.
	Out string
	// Backend is the compute backend, "" for the default.
	Backend string
	// Command is the command line to show in the report.
	Command string
}

// Event says how far an experiment is.
type Event struct {
	// Done of Total trials are finished, Kept of them before this run.
	Done, Kept, Total int
	// Trial is the key of the trial that just finished, "" at the start.
	Trial string
	// Remaining is an estimate; 0 while nothing is known.
	Remaining time.Duration
	// Warning is a line that the user should see, "" mostly.
	Warning string
}

// Summary is the outcome of an experiment.
type Summary struct {
	Experiment string  `json:"experiment"`
	Size       Size    `json:"size"`
	Seeds      []int64 `json:"seeds"`
	Folder     string  `json:"folder"`
	Report     string  `json:"report"`
	Trials     int     `json:"trials"`
	// Seconds is the time of all trials together, those of earlier runs included.
	Seconds float64           `json:"seconds"`
	Verdict Verdict           `json:"verdict"`
	Claims  []Claim           `json:"claims"`
	Limits  []string          `json:"limits,omitempty"`
	Command string            `json:"command"`
	Machine string            `json:"machine"`
	Version map[string]string `json:"versions"`
}

// MaxSeeds is the largest number of seeds: far above any use, it catches typing errors.
const MaxSeeds = 1000

// Run runs what is missing of an experiment, writes the report with its figures into the folder, and returns the outcome. sink
// is called from this goroutine. When ctx ends, Run stops within a training step; the finished trials are kept, and the error
// wraps ctx's.
func Run(ctx context.Context, o Options, sink func(Event)) (*Summary, error) {
	if o.Seeds < 0 || o.Seeds > MaxSeeds {
		return nil, fmt.Errorf("seeds must be 1 to %d, got %d", MaxSeeds, o.Seeds)
	}
	section, err := o.Recipe.section(o.Size)
	if err != nil {
		return nil, err
	}
	e, err := o.Recipe.open(section)
	if err != nil {
		return nil, fmt.Errorf("settings of %s %s: %w", o.Recipe.Name, o.Size, err)
	}
	seeds := make([]int64, o.Seeds)
	if o.Seeds == 0 {
		seeds = make([]int64, e.defaultSeeds())
	}
	for i := range seeds {
		seeds[i] = int64(i)
	}
	now := versions(o.Backend)
	f, err := openFolder(o.Out, identity{Experiment: o.Recipe.Name, Size: o.Size, Settings: string(section), Versions: []map[string]string{now}})
	if err != nil {
		return nil, err
	}
	defer f.unlock()
	if err := f.clean(); err != nil {
		return nil, fmt.Errorf("clean %s: %w", o.Out, err)
	}
	w := &worker{folder: f, backend: o.Backend, sink: sink, results: Results{Seeds: seeds, byKey: map[string]Result{}}}
	if err := w.work(ctx, e.plan(seeds)); err != nil {
		return nil, err
	}
	findings := e.judge(w.results)
	summary := &Summary{
		Experiment: o.Recipe.Name, Size: o.Size, Seeds: seeds, Folder: o.Out, Trials: len(w.results.byKey), Seconds: w.seconds(),
		Verdict: overall(findings.Claims), Claims: findings.Claims, Limits: findings.Limits, Command: o.Command, Machine: machine(), Version: now,
	}
	if err := f.writeReport(o.Recipe, summary, findings); err != nil {
		return nil, err
	}
	return summary, nil
}

// worker computes what is missing.
type worker struct {
	folder  *folder
	backend string
	sink    func(Event)
	results Results

	engine compute.Backend
	event  Event
	// cost and time of what this run did, and the cost that is left.
	begun              time.Time
	doneCost, leftCost float64
}

// keyPattern is what keys may be: they are names of files on every system.
var keyPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*$`)

// work loads the trials that are there and computes the others.
func (w *worker) work(ctx context.Context, groups []group) error {
	missing, err := w.load(groups)
	if err != nil {
		return err
	}
	w.sink(w.event)
	w.begun = time.Now()
	for _, g := range missing {
		if err := w.group(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// load reads the finished trials and returns the groups with those that are missing.
func (w *worker) load(groups []group) (missing []group, err error) {
	seen := map[string]bool{}
	for _, g := range groups {
		left := group{name: g.name, open: g.open}
		for _, t := range g.trials {
			if !keyPattern.MatchString(t.Key) || seen[t.Key] {
				return nil, fmt.Errorf("the plan has a bad or repeated key %q", t.Key)
			}
			seen[t.Key] = true
			w.event.Total++
			r, found, damaged, err := w.folder.load(t.Key)
			switch {
			case err != nil:
				return nil, err
			case damaged:
				w.sink(Event{Warning: fmt.Sprintf("%s is damaged: the trial is computed again", w.folder.trialPath(t.Key))})
			case found:
				w.results.byKey[t.Key] = r
				w.event.Done++
				w.event.Kept++
				continue
			}
			left.trials = append(left.trials, t)
			w.leftCost += t.Cost
		}
		if len(left.trials) > 0 {
			missing = append(missing, left)
		}
	}
	return missing, nil
}

// group opens a group's session and runs its trials.
func (w *worker) group(ctx context.Context, g group) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.engine == nil {
		engine, err := backend.Open(w.backend)
		if err != nil {
			return err
		}
		w.engine = engine
	}
	s, err := g.open(w.engine)
	if err != nil {
		return fmt.Errorf("%s: %w", g.name, err)
	}
	defer s.close()
	for _, t := range g.trials {
		started := time.Now()
		r, err := s.run(ctx, t)
		if err != nil {
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), err)
			}
			return fmt.Errorf("trial %s: %w", t.Key, err)
		}
		r.Key, r.Seconds = t.Key, time.Since(started).Seconds()
		if err := w.folder.save(r); err != nil {
			return err
		}
		w.results.byKey[t.Key] = r
		w.finished(t)
	}
	return nil
}

// finished reports a trial and foretells the rest from what this run has spent.
func (w *worker) finished(t Trial) {
	w.event.Done++
	w.event.Trial = t.Key
	w.doneCost += t.Cost
	w.leftCost -= t.Cost
	w.event.Remaining = 0
	if w.doneCost > 0 {
		w.event.Remaining = time.Duration(float64(time.Since(w.begun)) / w.doneCost * max(w.leftCost, 0))
	}
	w.sink(w.event)
}

// seconds returns the time of all trials together.
func (w *worker) seconds() float64 {
	total := 0.0
	for _, r := range w.results.byKey {
		total += r.Seconds
	}
	return total
}
