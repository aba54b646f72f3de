package cli

import (
	"context"
	"fmt"

	"github.com/gomlx/compute"
	"github.com/polargo/polar/adapter"
	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/model/hf"
	"github.com/polargo/polar/run"
)

// loadFlags say which model and adapter generate and merge read.
type loadFlags struct {
	Config   configPath `short:"c" help:"YAML file of settings; a key is a flag's name with _ for -. Flags on the command line win." placeholder:"FILE" group:"output"`
	Model    string     `help:"Model: a Hugging Face folder, a .gguf file, or a name on the hub; empty takes the base that the adapter names." placeholder:"PATH" group:"model"`
	Revision string     `help:"Revision of a hub model (branch, tag or commit)." default:"main" group:"model"`
	Adapter  string     `help:"Adapter: a folder in PEFT's format." placeholder:"DIR" group:"model"`
	Offline  bool       `help:"Never use the network." group:"run"`
}

// load reads the model and, where one is named and wanted, the adapter and puts it on the model. engine, if not nil, holds
// the weights in its own memory.
func (f loadFlags) load(ctx context.Context, p *program, withAdapter bool, engine compute.Backend) (*hf.Loaded, *adapter.Set, error) {
	var low *peft.Adapter
	if f.Adapter != "" && (withAdapter || f.Model == "") {
		var err error
		if low, err = peft.Load(f.Adapter); err != nil {
			return nil, nil, err
		}
	}
	name := f.Model
	if name == "" && low != nil {
		if name = low.Base; name == "" {
			return nil, nil, usagef("give --model", "adapter %s does not name its base model", f.Adapter)
		}
		_, _ = fmt.Fprintf(p.stderr, "base model: %s\n", name)
	}
	if name == "" {
		return nil, nil, usagef("give --model a folder, a .gguf file or a hub name, or --adapter a folder that names its base", "no model")
	}
	progress := p.newProgress(false)
	defer progress.finish()
	loaded, err := hf.Load(ctx, name, hf.LoadOptions{
		Offline: f.Offline, Revision: f.Revision, NeedTokenizer: true, Backend: engine,
		Progress: func(file string, done, total int64) {
			progress.event(run.Progress{What: "download " + file, Done: done, Total: total})
		},
	})
	if err != nil {
		return nil, nil, err
	}
	if low == nil || !withAdapter {
		return loaded, nil, nil
	}
	set, err := adapter.FromPEFT(loaded.Store, loaded.Decoder.Layers(), low)
	if err != nil {
		return nil, nil, fmt.Errorf("put adapter %s on %s: %w", f.Adapter, name, err)
	}
	return loaded, set, nil
}
