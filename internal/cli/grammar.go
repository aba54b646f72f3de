package cli

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/polargo/polar/optimizer"
)

// grammar is the command line; the fields are the commands.
type grammar struct {
	Quickstart quickstartCommand `cmd:"" help:"See it work: train a small base, choose a learning rate, fine-tune, compare, sample."`
	Finetune   finetuneCommand   `cmd:"" help:"Fine-tune a model: low-rank adapters, or all weights with --rank 0."`
	Train      trainCommand      `cmd:"" help:"Train a small character-level model from scratch on plain text."`
	Generate   generateCommand   `cmd:"" help:"Generate text with a model, with or without an adapter."`
	Merge      mergeCommand      `cmd:"" help:"Fold an adapter into its model and write a Hugging Face folder."`
	Matrix     matrixCommand     `cmd:"" help:"Compute a matrix function of arrays in .npy or safetensors files."`
	Step       stepCommand       `cmd:"" help:"Take one step of an optimizer on tensors in a safetensors file."`
	Reproduce  reproduceCommand  `cmd:"" help:"Repeat a published experiment and judge its claims."`
	Optimizers optimizersCommand `cmd:"" help:"List the optimizers and what a step of each costs."`
	Doctor     doctorCommand     `cmd:"" help:"Print what decides the speed here: processor, kernels, threads, memory, measured peaks."`
	Version    versionCommand    `cmd:"" help:"Print the versions of polar, Go and the libraries that decide the numbers."`

	Debug bool `help:"Print details and the stack of an error."`
}

// groups are the headings of flags in help, in this order.
var groups = []kong.Group{
	{Key: "model", Title: "Model"},
	{Key: "lab", Title: "Small model"},
	{Key: "data", Title: "Data"},
	{Key: "adapter", Title: "Adapter"},
	{Key: "optimizer", Title: "Optimizer"},
	{Key: "loop", Title: "Training loop"},
	{Key: "sampling", Title: "Sampling"},
	{Key: "matrix", Title: "Matrices"},
	{Key: "run", Title: "Run"},
	{Key: "output", Title: "Output"},
}

// trainDefaults are the defaults of train that differ from finetune's: plain text, drawn at random offsets, muon.
var trainDefaults = map[string]string{
	"optimizer": "muon", "sampling": "windows", "steps": "500", "batch": "16", "length": "128", "schedule": "wsd", "weight-decay": "0",
	"data": "shakespeare",
}

// settingOf says which optimizers read a flag that not all of them do.
var settingOf = map[string]func(optimizer.Info) bool{
	"beta2":    func(info optimizer.Info) bool { return info.Beta2 },
	"nesterov": func(info optimizer.Info) bool { return info.Nesterov },
	"protect":  func(info optimizer.Info) bool { return info.Protects },

	"max-preconditioned": func(info optimizer.Info) bool { return info.MaxPreconditioned },
}

// adjust completes the grammar after kong built it: choices that another package lists, and train's defaults. Flags of
// train that only a given model has a use for are hidden; train refuses them (trainCommand.check).
func adjust(k *kong.Kong) error {
	names := optimizer.Names(nil)
	for _, command := range k.Model.Children {
		for _, flag := range command.Flags {
			if flag.Name == "optimizer" {
				flag.Enum = strings.Join(names, ",")
				flag.Help += " One of " + strings.Join(names, ", ") + "."
			}
			if reads, ok := settingOf[flag.Name]; ok {
				flag.Help += " Only for " + strings.Join(optimizer.Names(reads), ", ") + "."
			}
			if command.Name != "train" {
				continue
			}
			if value, ok := trainDefaults[flag.Name]; ok {
				flag.Default, flag.HasDefault = value, true
			}
			flag.Hidden = flag.Hidden || slices.Contains(notForTrain, flag.Name)
		}
	}
	return nil
}
