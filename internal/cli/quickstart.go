package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/polargo/polar/data"
	"github.com/polargo/polar/run"
)

// quickstartCommand is 'polar quickstart': the main job, end to end, on text that needs no preparation.
type quickstartCommand struct {
	Config  configPath `short:"c" help:"YAML file of settings; a key is a flag's name with _ for -. Flags on the command line win." placeholder:"FILE" group:"output"`
	Data    string     `help:"Text to use: 'shakespeare' or a .txt file." default:"shakespeare" group:"data"`
	Out     string     `short:"o" help:"Folder to write; empty chooses runs/quickstart-DATE." placeholder:"DIR" group:"run"`
	Seed    int64      `help:"Seed of data order and initialisation." default:"0" group:"loop"`
	Backend string     `help:"Compute backend; empty takes $GOMLX_BACKEND or the default." group:"run"`
	Offline bool       `help:"Never use the network; text that would be downloaded is replaced by text that comes with Go." group:"run"`
	Quiet   bool       `short:"q" help:"Print only the results and errors." group:"output"`
}

// Help is shown under the flags' summary.
func (*quickstartCommand) Help() string {
	return `It trains a small character-level base on the first half of a text, tries five learning rates on a rank-2 adapter for the second half, fine-tunes at rank 16 with LoRA-Muon at the best of them and with AdamW at a usual rate, and compares.

Examples:

    polar quickstart
    polar quickstart --data book.txt -o runs/book`
}

// recipe is the size of a quickstart; tests run a tiny one.
type recipe struct {
	lab                             run.Lab
	baseSteps, proxySteps, runSteps int
	batch, length                   int
	proxyRank, rank                 int
	rates                           []float64 // of LoRA-Muon, tried on the proxy
	adamwRate                       float64
	sampleTokens                    int
}

// quickstartRecipe is what 'polar quickstart' runs. The rates are half a decade apart around LoRA-Muon's usual ones; AdamW's
// is the usual one for adapters of this size and is not searched.
var quickstartRecipe = recipe{
	lab:       run.Lab{Layers: 2, Hidden: 128, Heads: 4, Activation: "relu2", Positions: "rotary", QKNorm: true, PairScale: 1},
	baseSteps: 300, proxySteps: 40, runSteps: 120,
	batch: 16, length: 128,
	proxyRank: 2, rank: 16,
	rates:        []float64{0.01, 0.03, 0.1, 0.3, 1},
	adamwRate:    1e-3,
	sampleTokens: 120,
}

// Run runs the recipe.
func (c *quickstartCommand) Run(ctx context.Context, p *program) error {
	if c.Out == "" {
		c.Out = filepath.Join("runs", "quickstart-"+time.Now().Format("20060102-150405"))
	}
	if err := mustNotExist(c.Out); err != nil {
		return err
	}
	p.warnSlow(c.Backend)
	path, note, err := data.Resolve(ctx, c.Data, c.Offline)
	if err != nil {
		return err
	}
	q := &quickstart{recipe: p.recipe, command: c, p: p, progress: p.newProgress(c.Quiet), started: time.Now()}
	defer q.progress.finish()
	if note != "" {
		q.progress.heading("%s", note)
	}
	if err := q.text(path); err != nil {
		return err
	}
	return q.run(ctx)
}

// quickstart is one run of a recipe.
type quickstart struct {
	recipe
	command              *quickstartCommand
	p                    *program
	progress             *progress
	started              time.Time
	firstHalf, otherHalf string // files of text
}

// run does the parts in order and prints the comparison.
func (q *quickstart) run(ctx context.Context) error {
	base, err := q.part(ctx, fmt.Sprintf("1/4  base: %d layers of width %d from scratch, %d steps of muon", q.lab.Layers, q.lab.Hidden, q.baseSteps), "", q.baseConfig())
	if err != nil {
		return err
	}
	rate, trials, err := q.chooseRate(ctx, base.Model)
	if err != nil {
		return err
	}
	muon, err := q.part(ctx, fmt.Sprintf("3/4  LoRA-Muon at rank %d, rate %g, %d steps", q.rank, rate, q.runSteps), "", q.tuneConfig(base.Model, "lora-muon", rate, q.rank, q.runSteps))
	if err != nil {
		return err
	}
	adamw, err := q.part(ctx, fmt.Sprintf("4/4  AdamW at rank %d, rate %g, %d steps", q.rank, q.adamwRate, q.runSteps), "", q.tuneConfig(base.Model, "adamw", q.adamwRate, q.rank, q.runSteps))
	if err != nil {
		return err
	}
	q.progress.finish()
	q.print(base, trials, rate, muon, adamw)
	return nil
}

// config is what all parts share.
func (q *quickstart) config(name, text string, steps int) run.Config {
	return run.Config{
		Data: text, ValidationFraction: 0.1, Length: q.length, Packing: true, Sampling: "windows",
		Alpha: 0, Init: "lora", Targets: []string{"all-linear"},
		Momentum: -1, Beta2: -1, WidthScale: "rms", Guard: true, LoRAPlusRatio: 1, DecayFraction: 0.4,
		Steps: steps, Batch: q.batch, Accumulate: 1, EvalEvery: steps, EvalBatches: 8, SaveEvery: steps, SampleTokens: q.sampleTokens,
		Seed: q.command.Seed, Out: filepath.Join(q.command.Out, name), Backend: q.command.Backend, Offline: true,
	}
}

// baseConfig trains the base: muon at its usual rate, with a decay at the end.
func (q *quickstart) baseConfig() run.Config {
	cfg := q.config("base", q.firstHalf, q.baseSteps)
	lab := q.lab
	cfg.Lab, cfg.Optimizer, cfg.Schedule = &lab, "muon", "wsd"
	return cfg
}

// tuneConfig fine-tunes the base on the other half, from the same start with either optimizer.
func (q *quickstart) tuneConfig(base, optimizer string, rate float64, rank, steps int) run.Config {
	cfg := q.config(fmt.Sprintf("%s-rank%d-%g", optimizer, rank, rate), q.otherHalf, steps)
	cfg.Model, cfg.Optimizer, cfg.LearningRate, cfg.Rank, cfg.Schedule = base, optimizer, rate, rank, "linear"
	if optimizer != "adamw" {
		cfg.WeightDecay = 0.01
	}
	return cfg
}

// trial is one learning rate on the proxy.
type trial struct {
	rate, loss float64
	failure    string // why there is no loss
}

// chooseRate tries the rates on a small rank, which share their best with larger ranks, and returns the best.
func (q *quickstart) chooseRate(ctx context.Context, base string) (float64, []trial, error) {
	q.progress.heading("2/4  five learning rates on a rank-%d proxy, %d steps each", q.proxyRank, q.proxySteps)
	var trials []trial
	best := -1
	for i, rate := range q.rates {
		cfg := q.tuneConfig(base, "lora-muon", rate, q.proxyRank, q.proxySteps)
		cfg.SampleTokens = 0
		result, err := q.part(ctx, "", fmt.Sprintf("rate %g: ", rate), cfg)
		t := trial{rate: rate}
		switch {
		case diverged(err):
			t.failure = "diverged"
		case err != nil:
			return 0, nil, err
		default:
			t.loss = result.FinalLoss
			if best < 0 || t.loss < trials[best].loss {
				best = i
			}
		}
		trials = append(trials, t)
	}
	if best < 0 {
		return 0, nil, failf("", "every learning rate tried diverged")
	}
	return trials[best].rate, trials, nil
}

// part prepares and runs one training under a heading; label precedes the lines of its progress.
func (q *quickstart) part(ctx context.Context, heading, label string, cfg run.Config) (*run.Result, error) {
	q.progress.finish()
	if heading != "" {
		q.progress.heading("%s", heading)
	}
	q.progress.label = label
	defer func() { q.progress.label = "" }()
	session, err := q.p.prepare(ctx, cfg, q.progress.event)
	if err != nil {
		return nil, err
	}
	defer func() { _ = session.close() }()
	if cfg.Lab != nil {
		q.estimate(session.plan)
	}
	result, err := session.run(ctx)
	q.progress.finish()
	if err != nil {
		return nil, q.stopped(err)
	}
	return result, nil
}

// estimate says how long all parts take, from the plan of the base: a step costs about the same in each.
func (q *quickstart) estimate(plan run.Plan) {
	if plan.Time <= 0 || plan.Steps <= 0 {
		return
	}
	steps := q.baseSteps + len(q.rates)*q.proxySteps + 2*q.runSteps
	all := plan.Time / time.Duration(plan.Steps) * time.Duration(steps)
	q.progress.heading("%d steps in all, about %s by the plan's estimate; %s parameters, %s", steps, span(all.Round(time.Second)), count(plan.Parameters), strings.Join(plan.Data, "; "))
}
