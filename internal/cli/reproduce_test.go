package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	experiments "github.com/polargo/polar/recipe"
)

// newReproduce returns a program whose experiments are played: ten trials, and a summary with one claim.
func newReproduce(t *testing.T) (*fake, *[]experiments.Options) {
	t.Helper()
	f := newFake(t)
	var asked []experiments.Options
	f.reproduce = func(ctx context.Context, o experiments.Options, sink func(experiments.Event)) (*experiments.Summary, error) {
		asked = append(asked, o)
		sink(experiments.Event{Total: 10, Done: 4, Kept: 4})
		sink(experiments.Event{Warning: "trials/a.json is damaged"})
		for done := 5; done <= 10; done++ {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			sink(experiments.Event{Total: 10, Done: done, Kept: 4, Trial: "a-r0.1-s0", Remaining: 90 * time.Second})
		}
		claim := experiments.Claim{Statement: "rates transfer", Published: "the same", Measured: "0.1 at 8", Verdict: experiments.Partly, Reason: "The grid ends."}
		return &experiments.Summary{
			Experiment: o.Recipe.Name, Size: o.Size, Report: filepath.Join(o.Out, "report.md"), Trials: 10, Verdict: experiments.Partly,
			Claims: []experiments.Claim{claim}, Limits: []string{"2 seeds"},
		}, nil
	}
	return f, &asked
}

func TestReproduceRunsTheExperiment(t *testing.T) {
	f, asked := newReproduce(t)
	if status := f.main(t.Context(), strings.Fields("reproduce xor --full --seeds 3 -o runs/x")); status != statusOK {
		t.Fatalf("status %d: %s", status, f.err.String())
	}
	o := (*asked)[0]
	if o.Recipe.Name != "xor" || o.Size != experiments.Full || o.Seeds != 3 || o.Out != "runs/x" || o.Command != "polar reproduce xor --full --seeds 3 -o runs/x" {
		t.Errorf("asked for %+v", o)
	}
	mustSay(t, f.out.String(), "rates transfer: partly reproduced", "published the same; measured 0.1 at 8", "The grid ends.", "limit: 2 seeds", "xor full, 10 trials: partly reproduced",
		"report    runs/x/report.md")
	mustSay(t, f.err.String(), "10 trials, 4 of them are there already", "warning: trials/a.json is damaged", "trial 5/10  a-r0.1-s0  about 1 min 30 s left", "trial 10/10")
}

// TestReproduceDefaults checks what a bare command means: the quick size, the recipe's seeds, a folder named for both.
func TestReproduceDefaults(t *testing.T) {
	f, asked := newReproduce(t)
	if status := f.main(t.Context(), strings.Fields("reproduce mod31 --quiet --json")); status != statusOK {
		t.Fatalf("status %d: %s", status, f.err.String())
	}
	if o := (*asked)[0]; o.Size != experiments.Quick || o.Seeds != 0 || o.Out != filepath.Join("runs", "reproduce-mod31-quick") {
		t.Errorf("asked for %+v", o)
	}
	var got experiments.Summary
	if err := json.Unmarshal(f.out.Bytes(), &got); err != nil || got.Verdict != experiments.Partly || len(got.Claims) != 1 {
		t.Errorf("JSON %s: %v", f.out.String(), err)
	}
	if want := "warning: trials/a.json is damaged\n"; f.err.String() != want {
		t.Errorf("quiet, but standard error has %q, want %q", f.err.String(), want)
	}
}

func TestReproduceInterrupted(t *testing.T) {
	f, _ := newReproduce(t)
	inner := f.reproduce
	f.reproduce = func(ctx context.Context, o experiments.Options, sink func(experiments.Event)) (*experiments.Summary, error) {
		f.signals <- os.Interrupt
		<-ctx.Done()
		return inner(ctx, o, sink)
	}
	if status := f.main(t.Context(), strings.Fields("reproduce xor -o x")); status != statusInterrupted {
		t.Errorf("status %d, want %d", status, statusInterrupted)
	}
	mustSay(t, f.err.String(), "polar: interrupted; 4 of 10 trials are kept in x\n", "hint: continue with: polar reproduce xor --quick -o x\n")
}

func TestReproduceFails(t *testing.T) {
	f, _ := newReproduce(t)
	f.reproduce = func(context.Context, experiments.Options, func(experiments.Event)) (*experiments.Summary, error) {
		return nil, errors.New("trial a: no such thing")
	}
	if status := f.main(t.Context(), strings.Fields("reproduce xor")); status != statusFailed || f.err.String() != "polar: trial a: no such thing\n" || f.out.Len() > 0 {
		t.Errorf("status %d, %q, %q", status, f.err.String(), f.out.String())
	}
}

// TestReproduceBadInput wants one line, at most a hint, the status, and nothing computed, from the real experiments.
func TestReproduceBadInput(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "file")
	other := filepath.Join(dir, "other")
	foreign := filepath.Join(dir, "foreign")
	for path, text := range map[string]string{
		plain: "x", filepath.Join(other, "experiment.json"): `{"experiment": "mod31", "size": "quick"}`, filepath.Join(foreign, "thesis.tex"): "x",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		args   string
		status int
		want   []string
	}{
		{"reproduce", statusUsage, []string{"polar: reproduce has no experiment\n", "hint: the experiments are xor, mod31\n"}},
		{"reproduce xro", statusUsage, []string{`unknown experiment "xro"; known: xor, mod31; did you mean xor?`}},
		{"reproduce xor --quick --full", statusUsage, []string{"--quick and --full exclude each other"}},
		{"reproduce xor --seeds 0", statusUsage, []string{"--seeds is 0, want 1 to 1000"}},
		{"reproduce xor --seeds two", statusUsage, []string{"--seeds"}},
		{"reproduce xor -o " + filepath.Join(plain, "x"), statusFailed, []string{"create folder of the experiment", "not a directory"}},
		{"reproduce xor -o " + other, statusFailed, []string{"holds the experiment mod31, not xor: name another folder"}},
		{"reproduce mod31 --full -o " + other, statusFailed, []string{"holds mod31 quick, not full: name another folder"}},
		{"reproduce mod31 -o " + other, statusFailed, []string{"with other settings"}},
		{"reproduce xor -o " + foreign, statusFailed, []string{"is not empty and holds no experiment (it has thesis.tex)"}},
		{"reproduce xor -o " + filepath.Join(dir, "new") + " --backend abacus", statusFailed, []string{`unknown backend "abacus"`}},
	} {
		t.Run(strings.ReplaceAll(test.args, dir, ""), func(t *testing.T) {
			f := newFake(t)
			if status := f.main(t.Context(), strings.Fields(test.args)); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			mustSay(t, f.err.String(), test.want...)
			lines := 0
			for line := range strings.Lines(f.err.String()) {
				if !strings.HasPrefix(line, "warning: built without") && !strings.HasSuffix(line, " trials\n") {
					lines++
				}
			}
			if lines > 2 || f.out.Len() > 0 {
				t.Errorf("want one line and a hint, and no output; got:\n%s\n%s", f.err.String(), f.out.String())
			}
			if _, err := os.Stat(filepath.Join(foreign, "trials")); err == nil {
				t.Error("the foreign folder was written to")
			}
		})
	}
}
