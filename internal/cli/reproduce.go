package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	experiments "github.com/polargo/polar/recipe" // recipe is the size of a quickstart here
)

// reproduceCommand is 'polar reproduce': a published experiment, repeated and judged.
type reproduceCommand struct {
	Name    string `arg:"" optional:"" help:"Experiment to repeat; the list is below."`
	Quick   bool   `help:"Run the small version, minutes on two cores (the default)." group:"run"`
	Full    bool   `help:"Run the published grid with all seeds." group:"run"`
	Seeds   *int   `help:"Number of seeds; empty takes the experiment's." placeholder:"N" group:"run"`
	Out     string `short:"o" help:"Folder to write, or to go on in; empty is runs/reproduce-NAME-quick or -full." placeholder:"DIR" group:"run"`
	Backend string `help:"Compute backend; empty takes $GOMLX_BACKEND or the default." group:"run"`
	Quiet   bool   `short:"q" help:"Print only the outcome and errors." group:"output"`
	JSON    bool   `name:"json" help:"Print the outcome as JSON." group:"output"`
}

// experimentGarbage takes the place of garbagePercent: the networks of experiments are so small that the collector would run all
// the time. Trials of width 8 took half the time with 100 as with 20.
const experimentGarbage = 200

// Help is shown under the flags' summary.
func (*reproduceCommand) Help() string {
	var b strings.Builder
	b.WriteString("It runs the trials of a published experiment, and writes report.md with figures, the mean and standard error over seeds, the published figure, and for each claim whether it was reproduced, " +
		"not reproduced, or partly, with the reason. Settings come with the program and are not tuned until a claim holds.\n\n" +
		"Finished trials are kept: after an interruption, or with more --seeds, the same command goes on where it stopped.\n\nExperiments:\n\n")
	for _, r := range experiments.Known() {
		fmt.Fprintf(&b, "    %-8s %s\n", r.Name, r.Summary)
	}
	b.WriteString("\nExamples:\n\n    polar reproduce xor --quick\n    polar reproduce mod31 --full -o runs/mod31")
	return b.String()
}

// experimentNames lists the experiments for the help of the argument.
func experimentNames() string {
	var names []string
	for _, r := range experiments.Known() {
		names = append(names, r.Name)
	}
	return strings.Join(names, ", ")
}

// Run runs the experiment.
func (c *reproduceCommand) Run(ctx context.Context, p *program) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	p.warnSlow(c.Backend)
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(experimentGarbage))
	}
	show := &experimentProgress{p: p, progress: p.newProgress(c.Quiet)}
	runExperiment := p.reproduce
	if runExperiment == nil {
		runExperiment = experiments.Run
	}
	summary, err := runExperiment(ctx, o, show.event)
	show.progress.finish()
	if ctx.Err() != nil && err != nil {
		return &problem{
			status: statusInterrupted,
			cause:  fmt.Errorf("interrupted; %d of %d trials are kept in %s", show.last.Done, show.last.Total, o.Out),
			hint:   "continue with: " + o.Command,
		}
	}
	if err != nil {
		return err
	}
	if c.JSON {
		encoder := json.NewEncoder(p.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(summary)
	}
	return printSummary(p, summary)
}

// options checks the flags.
func (c *reproduceCommand) options() (o experiments.Options, err error) {
	if c.Name == "" {
		return o, usagef("the experiments are "+experimentNames(), "reproduce has no experiment")
	}
	if c.Quick && c.Full {
		return o, usagef("give one of them", "--quick and --full exclude each other")
	}
	if o.Recipe, err = experiments.Find(c.Name); err != nil {
		return o, &problem{status: statusUsage, cause: err}
	}
	o.Size, o.Out, o.Backend = experiments.Quick, c.Out, c.Backend
	if c.Seeds != nil {
		if o.Seeds = *c.Seeds; o.Seeds < 1 || o.Seeds > experiments.MaxSeeds {
			return o, usagef("", "--seeds is %d, want 1 to %d", o.Seeds, experiments.MaxSeeds)
		}
	}
	if c.Full {
		o.Size = experiments.Full
	}
	if o.Out == "" {
		o.Out = filepath.Join("runs", fmt.Sprintf("reproduce-%s-%s", c.Name, o.Size))
	}
	words := []string{"polar", "reproduce", c.Name, "--" + string(o.Size)}
	if o.Seeds > 0 {
		words = append(words, "--seeds", fmt.Sprint(o.Seeds))
	}
	if c.Backend != "" {
		words = append(words, "--backend", shellWord(c.Backend))
	}
	o.Command = strings.Join(append(words, "-o", shellWord(o.Out)), " ")
	return o, nil
}

// experimentProgress shows events on standard error: a rewritten line on a terminal, a line now and then elsewhere.
type experimentProgress struct {
	p        *program
	progress *progress
	last     experiments.Event
	shown    time.Time
}

// event shows one event.
func (e *experimentProgress) event(event experiments.Event) {
	if event.Warning != "" {
		e.progress.print("warning: " + event.Warning)
		return
	}
	e.last = event
	if e.progress.quiet {
		return
	}
	if event.Trial == "" {
		line := fmt.Sprintf("%d trials", event.Total)
		if event.Kept > 0 {
			line += fmt.Sprintf(", %d of them are there already", event.Kept)
		}
		e.progress.print(line)
		return
	}
	line := fmt.Sprintf("trial %d/%d  %s", event.Done, event.Total, event.Trial)
	if event.Remaining > 0 {
		line += fmt.Sprintf("  about %s left", span(event.Remaining))
	}
	now := e.progress.now()
	switch {
	case e.progress.look.terminal:
		e.progress.started = line // finish takes the line away
		_, _ = fmt.Fprintf(e.p.stderr, "\r\x1b[K%s", line)
	case e.shown.IsZero() || now.Sub(e.shown) >= plainEvery || event.Done == event.Total:
		e.shown = now
		e.progress.print(line)
	}
}

// printSummary says what became of each claim and where the report is.
func printSummary(p *program, s *experiments.Summary) error {
	for _, claim := range s.Claims {
		if _, err := fmt.Fprintf(p.stdout, "%s: %s\n  published %s; measured %s\n  %s\n", claim.Statement, claim.Verdict, claim.Published, claim.Measured, claim.Reason); err != nil {
			return err
		}
	}
	for _, limit := range s.Limits {
		if _, err := fmt.Fprintf(p.stdout, "limit: %s\n", limit); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(p.stdout, "\n%s %s, %d trials: %s\nreport    %s\n", s.Experiment, s.Size, s.Trials, s.Verdict, s.Report)
	return err
}
