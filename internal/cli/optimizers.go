package cli

import (
	"encoding/json"
	"fmt"

	"github.com/polargo/polar/optimizer"
)

// optimizersCommand is 'polar optimizers'.
type optimizersCommand struct {
	FanOut int  `help:"Fan-out of the layer whose cost is shown." default:"576" group:"matrix"`
	FanIn  int  `help:"Its fan-in." default:"576" group:"matrix"`
	Rank   int  `help:"Rank of its pair; 0 shows the cost of a dense weight." default:"16" group:"matrix"`
	JSON   bool `name:"json" help:"Print the list as JSON, with each optimizer's settings." group:"output"`
}

// Help is shown under the flags' summary.
func (*optimizersCommand) Help() string {
	return `Operations are those of one step's matrix products on one layer, or of its elements for rules without products; a
multiplication and an addition are two. State is what is kept between steps. "dense" marks costs of a dense weight, for
optimizers that do not train pairs.

Examples:

    polar optimizers
    polar optimizers --fan-out 4096 --fan-in 1024 --rank 32
    polar optimizers --json`
}

// listed is an optimizer in the list.
type listed struct {
	Name         string  `json:"name"`
	Summary      string  `json:"summary"`
	Pair         bool    `json:"pair"` // the cost is that of a pair
	Operations   int64   `json:"operations"`
	StateBytes   int64   `json:"state_bytes"`
	LearningRate float64 `json:"learning_rate"`
	Momentum     float64 `json:"momentum"`
	WeightDecay  float64 `json:"weight_decay"`
	problem      string  // why there is no cost
}

// Run lists the optimizers, one a line.
func (c *optimizersCommand) Run(p *program) error {
	if c.FanOut < 1 || c.FanIn < 1 || c.Rank < 0 {
		return usagef("", "no layer has fan-out %d, fan-in %d and rank %d", c.FanOut, c.FanIn, c.Rank)
	}
	var list []listed
	for _, info := range optimizer.Known() {
		cfg, err := optimizer.Default(info.Name)
		if err != nil {
			return err
		}
		one := listed{Name: info.Name, Summary: info.Summary, LearningRate: cfg.LearningRate, Momentum: cfg.Momentum, WeightDecay: cfg.WeightDecay}
		cost, err := optimizer.CostOf(cfg, c.FanOut, c.FanIn, c.Rank)
		if err != nil {
			one.problem = "pairs only"
		}
		one.Pair, one.Operations, one.StateBytes = cost.Pair, cost.Flops, cost.StateBytes
		list = append(list, one)
	}
	if c.JSON {
		encoder := json.NewEncoder(p.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(list)
	}
	return c.print(p, list)
}

func (c *optimizersCommand) print(p *program, list []listed) error {
	width := len("optimizer")
	for _, one := range list {
		width = max(width, len(one.Name))
	}
	layer := fmt.Sprintf("one layer %d x %d", c.FanOut, c.FanIn)
	if c.Rank > 0 {
		layer += fmt.Sprintf(", rank %d", c.Rank)
	}
	if _, err := fmt.Fprintf(p.stdout, "%-*s  %10s  %8s         what it does (costs: %s)\n", width, "optimizer", "operations", "state", layer); err != nil {
		return err
	}
	for _, one := range list {
		kind, operations, state := "", count(one.Operations), size(one.StateBytes)
		switch {
		case one.problem != "":
			kind, operations, state = "pairs", "-", "-"
		case !one.Pair && c.Rank > 0:
			kind = "dense"
		}
		if _, err := fmt.Fprintf(p.stdout, "%-*s  %10s  %8s  %-5s  %s\n", width, one.Name, operations, state, kind, one.Summary); err != nil {
			return err
		}
	}
	return nil
}
