package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/model/hf"
	"github.com/polargo/polar/tokenizer"
	"golang.org/x/term"
)

// generateCommand is 'polar generate'.
type generateCommand struct {
	loadFlags
	Prompt      string  `arg:"" optional:"" help:"Text to continue, or with --chat what the user says; without it, standard input."`
	NoAdapter   bool    `help:"Leave --adapter out, to compare." group:"model"`
	Chat        bool    `help:"Put the prompt into the model's chat template; without a prompt, talk line by line." group:"sampling"`
	System      string  `help:"With --chat: the system message." group:"sampling"`
	Temperature float64 `help:"Softmax temperature; 0 takes the likeliest token." default:"0.8" group:"sampling"`
	TopP        float64 `help:"Sample from the fewest tokens whose probabilities reach this sum." default:"0.95" group:"sampling"`
	TopK        int     `help:"Sample from this many likeliest tokens; 0 does not limit." default:"0" group:"sampling"`
	MaxTokens   int     `help:"Most tokens to generate." default:"200" group:"sampling"`
	Seed        int64   `help:"Seed of the samples." default:"0" group:"sampling"`
	Backend     string  `help:"Compute backend; empty takes $GOMLX_BACKEND or the default." group:"run"`
	PrintConfig bool    `help:"Print the settings as YAML, ready for --config, and exit." group:"output"`
}

// Help is shown under the flags' summary.
func (*generateCommand) Help() string {
	return `Examples:

    polar generate --model runs/NAME/model 'Once upon a time'
    polar generate --model model.gguf --adapter runs/NAME/adapter --chat 'What is a polar factor?'
    polar generate --adapter runs/NAME/adapter --no-adapter --temperature 0 'The same prompt without the adapter'
    polar generate --model HuggingFaceTB/SmolLM2-135M-Instruct --chat`
}

// Run generates text.
func (c *generateCommand) Run(ctx context.Context, p *program, parsed *kong.Context) error {
	if c.PrintConfig {
		return printConfig(p.stdout, parsed)
	}
	if err := c.check(); err != nil {
		return err
	}
	p.warnSlow(c.Backend)
	writer, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	if c.Chat && c.Prompt == "" {
		return c.talk(ctx, p, writer)
	}
	prompt := c.Prompt
	if prompt == "" {
		text, err := io.ReadAll(p.stdin)
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		prompt = string(text)
	}
	if c.Chat {
		_, err := writer.answer(ctx, p.stdout, c.opening(prompt))
		return err
	}
	if _, err := io.WriteString(p.stdout, prompt); err != nil {
		return err
	}
	ids, err := writer.loaded.Tokenizer.Encode(prompt, true)
	if err != nil {
		return fmt.Errorf("prompt: %w", err)
	}
	_, err = writer.write(ctx, p.stdout, ids)
	return err
}

// check refuses settings that cannot work.
func (c *generateCommand) check() error {
	switch {
	case !(c.Temperature >= 0) || c.Temperature > 1e6:
		return usagef("", "--temperature is %v, want 0 or more", c.Temperature)
	case !(c.TopP > 0 && c.TopP <= 1):
		return usagef("", "--top-p is %v, want more than 0 and at most 1", c.TopP)
	case c.TopK < 0:
		return usagef("", "--top-k is %d, want 0 or more", c.TopK)
	case c.MaxTokens < 1:
		return usagef("", "--max-tokens is %d, want at least 1", c.MaxTokens)
	case c.System != "" && !c.Chat:
		return usagef("", "--system needs --chat")
	case c.NoAdapter && c.Adapter == "":
		return usagef("", "--no-adapter needs --adapter")
	}
	return nil
}

// writer generates with one loaded model.
type writer struct {
	loaded  *hf.Loaded
	options model.Options
	open    func(length int) (*model.Generator, error)
	chat    *tokenizer.ChatTemplate
	sample  model.SampleConfig
	limit   int // positions the model has
}

// open loads what the flags name.
func (c *generateCommand) open(ctx context.Context, p *program) (*writer, error) {
	engine, err := backend.Open(c.Backend)
	if err != nil {
		return nil, err
	}
	loaded, set, err := c.load(ctx, p, !c.NoAdapter, engine)
	if err != nil {
		return nil, err
	}
	w := &writer{loaded: loaded, limit: loaded.Decoder.Config().MaxPositions}
	if set != nil {
		w.options.Linear = set.Linear(loaded.Store)
	}
	w.open = func(length int) (*model.Generator, error) {
		return model.NewGenerator(engine, loaded.Store, loaded.Decoder, w.options, length)
	}
	w.sample = model.SampleConfig{
		Temperature: c.Temperature, TopP: c.TopP, TopK: c.TopK, MaxTokens: c.MaxTokens, Seed: c.Seed, Stop: tokenizer.Stops(loaded.Tokenizer),
	}
	if c.Chat {
		if w.chat, err = c.template(loaded); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// template returns the chat template: the one that travelled with the adapter, where one is used and has one, else the model's.
func (c *generateCommand) template(loaded *hf.Loaded) (*tokenizer.ChatTemplate, error) {
	source, from := loaded.ChatTemplate, loaded.NameOrPath
	if c.Adapter != "" && !c.NoAdapter {
		own, err := tokenizer.TemplateFromFolder(c.Adapter)
		if err != nil {
			return nil, err
		}
		if own != "" {
			source, from = own, c.Adapter
		}
	}
	if source == "" {
		return nil, usagef("leave --chat out, or name a model with one", "%s has no chat template", from)
	}
	template, err := tokenizer.ParseChatTemplate(source, tokenizer.Special(loaded.Tokenizer))
	if err != nil {
		return nil, fmt.Errorf("chat template of %s: %w", from, err)
	}
	return template, nil
}

// write continues ids and streams the text; it returns the text.
func (w *writer) write(ctx context.Context, out io.Writer, ids []int) (string, error) {
	if len(ids) == 0 {
		if bos, ok := w.loaded.Tokenizer.BOS(); ok {
			ids = []int{bos}
		} else {
			return "", usagef("", "the prompt is empty")
		}
	}
	sample := w.sample
	if w.limit > 0 && len(ids) >= w.limit {
		return "", failf("", "the prompt has %d tokens and the model only %d positions", len(ids), w.limit)
	}
	if w.limit > 0 {
		sample.MaxTokens = min(sample.MaxTokens, w.limit-len(ids))
	}
	generator, err := w.open(len(ids) + sample.MaxTokens)
	if err != nil {
		return "", err
	}
	defer generator.Close()
	var text strings.Builder
	stream := tokenizer.NewStream(w.loaded.Tokenizer)
	emit := func(piece string) error {
		text.WriteString(piece)
		_, err := io.WriteString(out, piece)
		return err
	}
	_, err = generator.Generate(ctx, ids, sample, func(id int) error {
		for _, stop := range sample.Stop {
			if id == stop {
				return nil
			}
		}
		return emit(stream.Push(id))
	})
	if err != nil {
		return "", err
	}
	return text.String(), emit(stream.Flush() + "\n")
}

// opening begins a conversation.
func (c *generateCommand) opening(prompt string) []tokenizer.Message {
	var messages []tokenizer.Message
	if c.System != "" {
		messages = append(messages, tokenizer.Message{Role: "system", Content: c.System})
	}
	return append(messages, tokenizer.Message{Role: "user", Content: prompt})
}

// answer generates the assistant's next turn.
func (w *writer) answer(ctx context.Context, out io.Writer, messages []tokenizer.Message) (string, error) {
	text, err := w.chat.Render(messages, true)
	if err != nil {
		return "", err
	}
	ids, err := w.loaded.Tokenizer.Encode(text, false) // the template writes the special tokens
	if err != nil {
		return "", fmt.Errorf("prompt: %w", err)
	}
	return w.write(ctx, out, ids)
}

// talk answers standard input line by line, keeping the conversation.
func (c *generateCommand) talk(ctx context.Context, p *program, w *writer) error {
	file, ok := p.stdin.(*os.File)
	asking := ok && term.IsTerminal(int(file.Fd()))
	var messages []tokenizer.Message
	lines := bufio.NewScanner(p.stdin)
	lines.Buffer(nil, 1<<20)
	for {
		if asking {
			_, _ = fmt.Fprint(p.stderr, "> ")
		}
		if !lines.Scan() {
			return lines.Err()
		}
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		if messages == nil {
			messages = c.opening(line)
		} else {
			messages = append(messages, tokenizer.Message{Role: "user", Content: line})
		}
		reply, err := w.answer(ctx, p.stdout, messages)
		if err != nil {
			return err
		}
		messages = append(messages, tokenizer.Message{Role: "assistant", Content: reply})
	}
}
