package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/polargo/polar/run"
)

// outputFlags are what every training command has besides its run.Config.
type outputFlags struct {
	Config      configPath `short:"c" help:"YAML file of settings; a key is a flag's name with _ for -. Flags on the command line win." placeholder:"FILE" group:"output"`
	PrintConfig bool       `help:"Print the settings as YAML, ready for --config, and exit." group:"output"`
	DryRun      bool       `help:"Print what would be trained, how long it takes and how much memory, and exit." group:"output"`
	Quiet       bool       `short:"q" help:"Print only the result and errors." group:"output"`
	JSON        bool       `name:"json" help:"Print the result as JSON on standard output, all else on standard error." group:"output"`
}

// finetuneCommand is 'polar finetune'.
type finetuneCommand struct {
	run.Config
	Output outputFlags `embed:""`
}

// Help is shown under the flags' summary.
func (*finetuneCommand) Help() string {
	return `Examples:

    polar finetune --model models/SmolLM2-135M --data chat.jsonl
    polar finetune --model HuggingFaceTB/SmolLM2-135M-Instruct --data chat.jsonl --rank 8 --lr 0.03 --steps 200
    polar finetune --model model.gguf --data notes.txt --targets q_proj --targets v_proj --dry-run
    polar finetune --config run.yaml --seed 1
    polar finetune --resume -o runs/NAME`
}

// Run fine-tunes.
func (c *finetuneCommand) Run(ctx context.Context, p *program, parsed *kong.Context) error {
	if c.Output.PrintConfig {
		return printConfig(p.stdout, parsed)
	}
	if c.Resume && c.Model == "" {
		if err := checkResume(parsed); err != nil {
			return err
		}
		return p.train(ctx, c.Config, c.Output, "finetune")
	}
	if c.Model == "" {
		return usagef("give --model a Hugging Face folder, a .gguf file or a name on the hub; 'polar train' needs none", "finetune has no model")
	}
	if c.Data == "" {
		return usagef("give --data a .txt, .jsonl or .parquet file, a folder of them, or 'shakespeare'", "finetune has no data")
	}
	return p.train(ctx, c.Config, c.Output, "finetune")
}

// trainCommand is 'polar train': run.Config without what belongs to a given model, and the small model's settings.
type trainCommand struct {
	run.Config
	Small  run.Lab     `embed:""`
	Output outputFlags `embed:""`
}

// notForTrain are the flags of run.Config that need a given model. They stay keys of configuration files, so that the
// config.yaml of a run can be used again, but only with the values that change nothing.
var notForTrain = []string{"model", "revision", "rank", "alpha", "rslora", "init", "targets", "protect"}

// Help is shown under the flags' summary.
func (*trainCommand) Help() string {
	return `Examples:

    polar train --data shakespeare
    polar train --data book.txt --layers 4 --hidden 256 --steps 2000 -o runs/book
    polar train --data book.txt --optimizer lora-muon --pair-rank 32 --lr 0.1`
}

// Run trains from scratch.
func (c *trainCommand) Run(ctx context.Context, p *program, parsed *kong.Context) error {
	if c.Output.PrintConfig {
		return printConfig(p.stdout, parsed)
	}
	if err := c.check(parsed); err != nil {
		return err
	}
	cfg := c.Config
	cfg.Lab = &c.Small
	cfg.Rank = c.Small.PairRank
	if c.Resume && !given(parsed, "data") {
		if err := checkResume(parsed); err != nil {
			return err
		}
		cfg.Data = "" // the run's own settings, not the default
	}
	return p.train(ctx, cfg, c.Output, "train")
}

// withResume are the settings that a resumed run takes from the command line; the others are the run's own.
var withResume = []string{"out", "resume", "verify", "backend", "offline", "config", "dry-run", "quiet", "json", "debug"}

// given reports whether the command line or the configuration file sets a flag.
func given(parsed *kong.Context, name string) bool {
	return slices.ContainsFunc(parsed.Path, func(path *kong.Path) bool { return path.Flag != nil && path.Flag.Name == name })
}

// checkResume refuses settings that a run resumed with its own settings would ignore.
func checkResume(parsed *kong.Context) error {
	for _, path := range parsed.Path {
		if path.Flag != nil && !slices.Contains(withResume, path.Flag.Name) {
			return usagef("leave it out, or give all of the run's settings, its model and data too",
				"--%s has no effect with --resume: the run continues with the settings of its folder", path.Flag.Name)
		}
	}
	return nil
}

// check refuses the hidden flags where they ask for something that train does not do.
func (c *trainCommand) check(parsed *kong.Context) error {
	rank := c.Rank == 0 || c.Rank == 16 || c.Rank == c.Small.PairRank
	inert := map[string]bool{
		"model": c.Model == "", "revision": true, "init": true, "targets": len(c.Targets) == 0 || strings.Join(c.Targets, ",") == "all-linear",
		"rank": rank, "alpha": c.Alpha == 0 || c.Alpha == float64(c.Rank), "rslora": !c.RSLoRA, "protect": len(c.Protect) == 0,
	}
	for _, name := range notForTrain {
		if !inert[name] {
			return usagef("'polar finetune' starts from a model; --pair-rank trains low-rank weights from scratch", "train has no --%s: it starts from scratch", name)
		}
	}
	return nil
}
