package cli

import (
	"context"
	"fmt"

	"github.com/polargo/polar/model/hf"
	"github.com/polargo/polar/tokenizer"
)

// mergeCommand is 'polar merge'.
type mergeCommand struct {
	loadFlags
	Out string `short:"o" required:"" help:"Folder to write; it must not exist yet." placeholder:"DIR" group:"output"`
}

// Help is shown under the flags' summary.
func (*mergeCommand) Help() string {
	return `Examples:

    polar merge --model models/SmolLM2-135M --adapter runs/NAME/adapter -o merged
    polar merge --adapter runs/NAME/adapter -o merged`
}

// Run writes the model with the adapter folded into its weights.
func (c *mergeCommand) Run(ctx context.Context, p *program) error {
	if c.Adapter == "" {
		return usagef("give --adapter the folder of an adapter", "merge has no adapter")
	}
	if err := mustNotExist(c.Out); err != nil {
		return err
	}
	loaded, set, err := c.load(ctx, p, true, nil)
	if err != nil {
		return err
	}
	layers := len(set.Layers())
	if err := set.Merge(); err != nil {
		return fmt.Errorf("merge adapter %s: %w", c.Adapter, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	extra := loaded.Extra()
	if own, err := tokenizer.TemplateFromFolder(c.Adapter); err != nil {
		return err
	} else if own != "" { // the one it was trained with
		extra.ChatTemplate = own
	}
	if err := hf.Save(c.Out, loaded.Decoder, loaded.Store, extra); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(p.stdout, "merged %d layers of %s into %s\ntry       polar generate --model %s 'Once'\n", layers, c.Adapter, c.Out, shellWord(c.Out))
	return nil
}
