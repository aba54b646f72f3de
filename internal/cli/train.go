package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/optimizer"
	"github.com/polargo/polar/run"
)

// train prepares and runs one training, with the plan first and the result last.
func (p *program) train(ctx context.Context, cfg run.Config, output outputFlags, command string) error {
	if err := checkConfig(cfg); err != nil {
		return err
	}
	human := p.stdout
	if output.JSON {
		human = p.stderr
	}
	p.warnSlow(cfg.Backend)
	progress := p.newProgress(output.Quiet)
	defer progress.finish()
	session, err := p.prepare(ctx, cfg, progress.event)
	if err != nil {
		return err
	}
	defer func() { _ = session.close() }()
	progress.finish()
	if !output.Quiet || output.DryRun {
		printPlan(human, session.config, session.plan, p.styleOf(human))
	}
	if output.DryRun {
		return nil
	}
	result, err := session.run(ctx)
	progress.finish()
	if errors.Is(err, run.ErrInterrupted) {
		return interrupted(command, session.config.Out)
	}
	if err != nil {
		return err
	}
	if result == nil { // --verify trains nothing
		_, _ = fmt.Fprintf(human, "verified: replaying the last steps of %s gave the same losses, weights, optimizer state and data order\n", session.config.Out)
		return nil
	}
	if output.JSON {
		return writeJSON(p.stdout, result)
	}
	printResult(human, session.config, result)
	return nil
}

// interrupted is the end of a run that was stopped and has saved its state.
func interrupted(command, folder string) error {
	return &problem{
		status: statusInterrupted,
		cause:  fmt.Errorf("interrupted; the state is saved in %s", folder),
		hint:   fmt.Sprintf("continue with: polar %s --resume -o %s", command, shellWord(folder)),
	}
}

// checkConfig refuses what can be told from the flags alone: numbers that are none and unknown optimizers.
func checkConfig(cfg run.Config) error {
	if _, err := optimizer.Default(cfg.Optimizer); err != nil {
		return &problem{status: statusUsage, cause: err}
	}
	structs := []reflect.Value{reflect.ValueOf(cfg)}
	if cfg.Lab != nil {
		structs = append(structs, reflect.ValueOf(*cfg.Lab))
	}
	for _, value := range structs {
		for i := range value.NumField() {
			field := value.Type().Field(i)
			if field.Type.Kind() != reflect.Float64 {
				continue
			}
			if number := value.Field(i).Float(); !isFinite(number) {
				name := strings.ReplaceAll(run.SettingKey(field), "_", "-")
				return usagef("", "--%s is %v, want a finite number", name, number)
			}
		}
	}
	return nil
}

// warnSlow says once that the named backend multiplies without vector instructions where this processor could have them.
func (p *program) warnSlow(name string) {
	if p.warnedSlow || goarch != "amd64" || backend.Instructions(name) != "scalar" {
		return
	}
	p.warnedSlow = true
	_, _ = fmt.Fprintln(p.stderr, "warning: the backend go was built without GOEXPERIMENT=simd: products run about 19 times slower (9 against 171 GFLOP/s measured at 1024³); use the backend polar")
}

// writeJSON writes a result as indented JSON.
func writeJSON(out io.Writer, result *run.Result) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(result)
}
