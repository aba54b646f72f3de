package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	experiments "github.com/polargo/polar/recipe"
	"github.com/polargo/polar/run"
)

// trainer is a prepared run, as this package uses it.
type trainer struct {
	config run.Config
	plan   run.Plan
	run    func(context.Context) (*run.Result, error)
	close  func() error
}

// program is one invocation: its streams and what tests replace: preparing a run, listening to signals, quickstart's size.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	prepare        func(context.Context, run.Config, run.Sink) (*trainer, error)
	notify         func(chan<- os.Signal) (stop func())
	recipe         recipe
	reproduce      func(context.Context, experiments.Options, func(experiments.Event)) (*experiments.Summary, error) // nil for the real one
	warnedSlow     bool
}

// garbagePercent is how much garbage the heap may hold beside what is in use. Nearly all of the heap is arrays without
// pointers, which cost the collector nothing to scan, so that collecting five times as often as Go's default is free; at the
// peak of a fine-tune it saved 0.7 of 4.0 GB. GOGC in the environment overrides it.
const garbagePercent = 20

// Main runs one command and returns the exit status. The caller exits with it: after a second interrupt Main returns while
// the command is still at work.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, prepare: prepareRun, notify: notifyInterrupts, recipe: quickstartRecipe}
	return p.main(ctx, args)
}

func prepareRun(ctx context.Context, cfg run.Config, sink run.Sink) (*trainer, error) {
	session, err := run.Prepare(ctx, cfg, sink)
	if err != nil {
		return nil, err
	}
	return &trainer{config: session.Config, plan: session.Plan, run: session.Run, close: session.Close}, nil
}

func notifyInterrupts(signals chan<- os.Signal) func() {
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	return func() { signal.Stop(signals) }
}

// main runs the command beside the signals: the first cancels ctx, the second ends the program.
func (p *program) main(ctx context.Context, args []string) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 2)
	defer p.notify(signals)()
	done := make(chan int, 1)
	go func() { done <- p.guarded(ctx, args) }()
	for interrupts := 0; ; {
		select {
		case status := <-done:
			return status
		case <-signals:
			if interrupts++; interrupts > 1 {
				_, _ = fmt.Fprintln(p.stderr, "polar: stopped at once; the last checkpoint is the state to resume from")
				return statusInterrupted
			}
			_, _ = fmt.Fprintln(p.stderr, "polar: stopping; once more (Ctrl-C) quits at once")
			cancel()
		}
	}
}

// exited is thrown by kong's exit hook, after it printed help.
type exited struct{ status int }

// guarded runs the command and turns errors and panics into messages and a status.
func (p *program) guarded(ctx context.Context, args []string) (status int) {
	debugging := slices.Contains(args, "--debug")
	defer func() {
		switch cause := recover().(type) {
		case nil:
		case exited:
			status = cause.status
		default:
			_, _ = fmt.Fprintf(p.stderr, "polar: internal error: %s\n", withoutSecrets(oneLine(fmt.Sprint(cause))))
			if debugging {
				_, _ = p.stderr.Write(debug.Stack())
			} else {
				_, _ = fmt.Fprintln(p.stderr, "hint: this is a bug in polar; please report it at https://github.com/polargo/polar/issues with the output of the same command and --debug")
			}
			status = statusFailed
		}
	}()
	err := p.execute(ctx, args)
	switch {
	case err == nil:
		return statusOK
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = &problem{status: statusInterrupted, cause: errors.New("interrupted")}
	}
	if debugging {
		_, _ = fmt.Fprintln(p.stderr, withoutSecrets(fmt.Sprintf("%+v", err)))
	}
	return report(p.stderr, err)
}

// execute parses the arguments and runs the chosen command.
func (p *program) execute(ctx context.Context, args []string) error {
	parser, err := p.parser()
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(fillWidthScale(joinNegatives(args)))
	if err != nil {
		return err
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(p, parsed)
}

// parser builds the grammar.
func (p *program) parser() (*kong.Kong, error) {
	return kong.New(&grammar{},
		kong.Name("polar"),
		kong.Description("Fine-tune language models with LoRA-Muon and other spectral optimizers."),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(func(status int) { panic(exited{status}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110, FlagsLast: true}),
		kong.ExplicitGroups(groups),
		kong.FlagNamer(flagName),
		kong.PostBuild(adjust),
	)
}

// flagName names a field's flag as run names its configuration key, with - for _.
func flagName(field string) string {
	return strings.ReplaceAll(run.SettingKey(reflect.StructField{Name: field}), "_", "-")
}
