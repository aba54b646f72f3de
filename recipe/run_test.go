package recipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gomlx/compute"
)

// played is an experiment whose trials return numbers without training: groups of two trials a seed. It counts what it runs and
// can stop the context within a trial.
type played struct {
	opened, ran int
	stopAt      int // cancel in this trial, counted from 1; 0 for never
	cancel      context.CancelFunc
	fail        string // the key that fails
	closed      int
}

func (*played) defaultSeeds() int { return 2 }

func (p *played) plan(seeds []int64) (groups []group) {
	for _, name := range []string{"a", "b"} {
		g := group{name: name, open: func(compute.Backend) (session, error) { p.opened++; return p, nil }}
		for _, seed := range seeds {
			for _, rate := range []float64{0.1, 1} {
				g.trials = append(g.trials, Trial{Key: fmt.Sprintf("%s-r%s-s%d", name, rateName(rate), seed), Rate: rate, Seed: seed, Cost: 1})
			}
		}
		groups = append(groups, g)
	}
	return groups
}

func (p *played) run(ctx context.Context, t Trial) (Result, error) {
	if t.Key == p.fail {
		return Result{}, errors.New("it broke")
	}
	if p.ran+1 == p.stopAt {
		p.cancel()
		return Result{}, ctx.Err()
	}
	p.ran++
	time.Sleep(time.Millisecond)
	return Result{
		Values: map[string]Number{"x": Number(math.Sqrt(t.Rate) / 3), "nan": Number(math.NaN()), "inf": Number(math.Inf(-1))},
		Series: map[string][]Number{"y": numbers([]float64{t.Rate / 7, math.Inf(1), float64(t.Seed)})},
	}, nil
}

func (p *played) close() { p.closed++ }

func (*played) judge(r Results) Findings {
	x := r.values("x", func(seed int64) string { return fmt.Sprintf("a-r0.1-s%d", seed) })
	return Findings{
		Claims:   []Claim{{Statement: "x is a third", Published: "1/3", Measured: estimate(x).String(), Verdict: NotReproduced, Reason: "It is not."}},
		Tables:   []Table{{Title: "Numbers", Header: []string{"a|b"}, Rows: [][]string{{"1"}}}},
		Figures:  []Figure{{File: "y.png", Title: "Y", Panels: []Panel{{Curves: []Curve{{Name: "y", X: []float64{1, 2, 3}, Y: r.series("b-r1-s0", "y")}}}}}},
		Settings: []string{"played"}, Limits: []string{"it is a test"},
	}
}

// playedRecipe returns a recipe that p plays.
func playedRecipe(p *played) Recipe {
	return Recipe{
		Name: "played", Summary: "a test", Source: "nothing", settings: []byte("quick: {seeds: 2}\nfull: {seeds: 3}\n"),
		open: func([]byte) (experiment, error) { return p, nil },
	}
}

func options(p *played, dir string) Options {
	return Options{Recipe: playedRecipe(p), Size: Quick, Out: dir, Command: "polar reproduce played"}
}

// trials reads all kept trials without their times.
func trials(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, trialsFolder, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		delete(fields, "seconds")
		rest, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(path)] = string(rest)
	}
	return out
}

func mustRun(t *testing.T, o Options) (*Summary, []Event) {
	t.Helper()
	var events []Event
	s, err := Run(t.Context(), o, func(e Event) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	return s, events
}

func TestRunWritesReportAndSummary(t *testing.T) {
	dir, p := filepath.Join(t.TempDir(), "new", "folder"), &played{}
	s, events := mustRun(t, options(p, dir))
	if s.Trials != 8 || p.ran != 8 || p.opened != 2 || p.closed != 2 || s.Verdict != NotReproduced || len(s.Seeds) != 2 {
		t.Errorf("ran %d trials in %d groups: %+v", p.ran, p.opened, s)
	}
	last := events[len(events)-1]
	if last.Done != 8 || last.Total != 8 || last.Remaining != 0 || events[4].Remaining <= 0 || events[0].Done != 0 {
		t.Errorf("events %+v", events)
	}
	text, err := os.ReadFile(s.Report)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# played: a test", "| x is a third | 1/3 | 0.1054 ± 0 | not reproduced |", "It is not.", "polar reproduce played", "seeds 0 to 1", "go go1", "![Y](y.png)", "| a\\|b |",
		"What these results cannot support", "it is a test", "seeds: 2",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report has no %q:\n%s", want, text)
		}
	}
	var kept Summary
	summary, err := os.ReadFile(filepath.Join(dir, summaryFile))
	if err != nil || json.Unmarshal(summary, &kept) != nil || !reflect.DeepEqual(&kept, s) {
		t.Errorf("summary %s (%v), want %+v", summary, err, s)
	}
	if png, err := os.ReadFile(filepath.Join(dir, "y.png")); err != nil || !strings.HasPrefix(string(png), "\x89PNG") {
		t.Errorf("figure: %v", err)
	}
}

// TestResume interrupts an experiment within each of its trials in turn, and goes on. Trials and report must be those of a run
// without interruption, and finished trials must not be run again.
func TestResume(t *testing.T) {
	whole := t.TempDir()
	mustRun(t, options(&played{}, whole))
	want := trials(t, whole)
	for stop := 1; stop <= len(want); stop++ {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		first := &played{stopAt: stop, cancel: cancel}
		if _, err := Run(ctx, options(first, dir), func(Event) {}); !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped in trial %d: %v", stop, err)
		}
		if got := trials(t, dir); len(got) != stop-1 || first.closed != first.opened {
			t.Errorf("stopped in trial %d with %d kept, %d groups open", stop, len(got), first.opened-first.closed)
		}
		second := &played{}
		_, events := mustRun(t, options(second, dir))
		if second.ran != len(want)-(stop-1) || events[0].Kept != stop-1 {
			t.Errorf("stopped in trial %d, then ran %d", stop, second.ran)
		}
		if got := trials(t, dir); !reflect.DeepEqual(got, want) {
			t.Errorf("stopped in trial %d: trials %v, want %v", stop, got, want)
		}
	}
}

// TestMoreSeeds goes on with more seeds in the same folder: only theirs are run, and fewer seeds leave the others out.
func TestMoreSeeds(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, options(&played{}, dir))
	more := &played{}
	o := options(more, dir)
	o.Seeds = 3
	if s, _ := mustRun(t, o); more.ran != 4 || s.Trials != 12 {
		t.Errorf("ran %d, has %d", more.ran, s.Trials)
	}
	none := &played{}
	o = options(none, dir)
	o.Seeds = 1
	if s, _ := mustRun(t, o); none.ran != 0 || none.opened != 0 || s.Trials != 4 {
		t.Errorf("ran %d, opened %d, has %d", none.ran, none.opened, s.Trials)
	}
}

// TestDamagedTrial computes a trial again whose file is not what was written, and says so.
func TestDamagedTrial(t *testing.T) {
	for name, text := range map[string]string{"cut": `{"key": "a-r1-s0", "val`, "another's": `{"key": "a-r1-s1", "values": {"x": 1}}`, "empty": "", "no number": `{"key":"a-r1-s0","values":{"x":"much"}}`} {
		dir := t.TempDir()
		mustRun(t, options(&played{}, dir))
		want := trials(t, dir)
		path := filepath.Join(dir, trialsFolder, "a-r1-s0.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		p := &played{}
		_, events := mustRun(t, options(p, dir))
		if p.ran != 1 || events[0].Warning != path+" is damaged: the trial is computed again" || !reflect.DeepEqual(trials(t, dir), want) {
			t.Errorf("%s: ran %d, event %+v", name, p.ran, events[0])
		}
	}
}

func TestRunRefuses(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, options(&played{}, dir))
	unlock, err := lock(filepath.Join(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	for name, test := range map[string]struct {
		change func(o *Options)
		want   string
	}{
		"another experiment": {func(o *Options) { o.Recipe.Name = "other" }, "holds the experiment played, not other"},
		"another size":       {func(o *Options) { o.Size = Full }, "holds played quick, not full"},
		"other settings":     {func(o *Options) { o.Recipe.settings = []byte("quick: {seeds: 9}") }, "with other settings"},
		"no such size":       {func(o *Options) { o.Size = "huge" }, `no section "huge"`},
		"too many seeds":     {func(o *Options) { o.Seeds = MaxSeeds + 1 }, "seeds must be 1 to 1000"},
		"a trial that fails": {func(o *Options) { o.Out = t.TempDir(); *o = options(&played{fail: "b-r1-s0"}, o.Out) }, "trial b-r1-s0: it broke"},
		"no backend":         {func(o *Options) { o.Out = t.TempDir(); o.Backend = "abacus" }, "unknown backend"},
	} {
		o := options(&played{}, dir)
		test.change(&o)
		if _, err := Run(t.Context(), o, func(Event) {}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	held, err := openFolder(dir, identity{Experiment: "played", Size: Quick, Settings: "seeds: 2\n", Versions: []map[string]string{versions("")}})
	if err != nil {
		t.Fatal(err)
	}
	defer held.unlock()
	if _, err := Run(t.Context(), options(&played{}, dir), func(Event) {}); err == nil || !strings.Contains(err.Error(), "another process is at work") {
		t.Errorf("while the folder is held: %v", err)
	}
}

// TestOtherVersions notes in the report that trials come from two programs.
func TestOtherVersions(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, options(&played{}, dir))
	f, err := openFolder(dir, identity{Experiment: "played", Size: Quick, Settings: "seeds: 2\n", Versions: []map[string]string{{"go": "go1.99"}}})
	if err != nil {
		t.Fatal(err)
	}
	f.unlock()
	s, _ := mustRun(t, options(&played{}, dir))
	if text, err := os.ReadFile(s.Report); err != nil || !strings.Contains(string(text), "other versions:\n\nVersions: go go1.99.") {
		t.Errorf("%v: %s", err, text)
	}
}

// TestPlansHaveGoodKeys checks that a repeated key, which would let one trial stand for another, is refused.
func TestPlansHaveGoodKeys(t *testing.T) {
	w := &worker{folder: &folder{dir: t.TempDir()}, results: Results{byKey: map[string]Result{}}, sink: func(Event) {}}
	for _, keys := range [][]string{{"a", "a"}, {"../a"}, {"A"}, {""}} {
		var g group
		for _, key := range keys {
			g.trials = append(g.trials, Trial{Key: key})
		}
		if _, err := w.load([]group{g}); err == nil {
			t.Errorf("keys %q were accepted", keys)
		}
	}
}

func TestNumberKeepsEveryFloat(t *testing.T) {
	for _, want := range []float64{0, 1.0 / 3, math.SmallestNonzeroFloat64, -math.MaxFloat64, math.Inf(1), math.Inf(-1), math.NaN(), math.Copysign(0, -1)} {
		text, err := json.Marshal(Number(want))
		var got Number
		if err == nil {
			err = json.Unmarshal(text, &got)
		}
		if err != nil || math.Float64bits(float64(got)) != math.Float64bits(want) {
			t.Errorf("%v came back as %v from %s: %v", want, got, text, err)
		}
	}
}
