package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2"
	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"` // "system", "user", "assistant", or another role that the template knows
	Content string `json:"content"`
}

// ChatTemplate renders messages as the text a chat model was trained on. Safe for concurrent use.
type ChatTemplate struct {
	src     string
	program *exec.Template
	special map[string]string
}

// maxRendered bounds the text of one conversation, so that a template's runaway loop ends.
const maxRendered = 64 << 20

// templateName is the only name the template loader knows; include, import and extends of anything else fail.
const templateName = "/chat_template"

// ParseChatTemplate parses Jinja source as transformers does: trim_blocks and lstrip_blocks on, loop controls, raise_exception,
// strftime_now, tojson. special gives the template's variables such as bos_token and eos_token (see Special); those missing are
// undefined. A template cannot read files.
func ParseChatTemplate(src string, special map[string]string) (c *ChatTemplate, err error) {
	defer recovered("chat template", &err)
	if strings.TrimSpace(src) == "" {
		return nil, errors.New("chat template: the template is empty")
	}
	loader, err := loaders.NewMemoryLoader(map[string]string{templateName: adapt(src)})
	if err != nil {
		return nil, fmt.Errorf("chat template: %s", oneLine(err.Error()))
	}
	conf := config.New()
	conf.TrimBlocks, conf.LeftStripBlocks = true, true
	program, err := exec.NewTemplate(templateName, conf, loader, environment())
	if err != nil {
		return nil, fmt.Errorf("chat template: %s", parseError(err))
	}
	return &ChatTemplate{src: src, program: program, special: maps.Clone(special)}, nil
}

// parseError drops the copy of the whole template that the library puts in front of the reason.
func parseError(err error) string {
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}
	return shorten(oneLine(err.Error()))
}

func shorten(s string) string {
	const most = 400
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + " ..."
	}
	return s
}

// generationMarks removes {% generation %} and its end, which transformers defines for its own masks and Jinja does not know.
var generationMarks = strings.NewReplacer("{% generation %}", "", "{% endgeneration %}", "", "{%- generation %}", "{#- -#}",
	"{%- generation -%}", "{#- -#}", "{%- endgeneration %}", "{#- -#}", "{%- endgeneration -%}", "{#- -#}")

func adapt(src string) string { return generationMarks.Replace(src) }

// Source returns the Jinja source.
func (c *ChatTemplate) Source() string { return c.src }

// Render returns the text of messages; addGenerationPrompt appends what opens the assistant's next turn. A template's own
// raise_exception comes back as a one-line error.
func (c *ChatTemplate) Render(messages []Message, addGenerationPrompt bool) (text string, err error) {
	defer recovered("chat template", &err)
	list := make(pyList, len(messages))
	for i, m := range messages {
		list[i] = map[string]any{"role": m.Role, "content": m.Content}
	}
	data := map[string]any{"messages": list, "add_generation_prompt": addGenerationPrompt, "tools": nil, "documents": nil,
		"strftime_now": func(format string) string { return strftime(time.Now(), format) }}
	for key, value := range c.special {
		data[key] = value
	}
	var raised string
	data["raise_exception"] = func(message string) (string, error) {
		if raised == "" {
			raised = message
		}
		return "", errors.New(message)
	}
	out := &limited{}
	err = c.program.Execute(out, exec.NewContext(data))
	switch {
	case raised != "":
		return "", fmt.Errorf("chat template: %s", shorten(oneLine(raised)))
	case err != nil:
		return "", fmt.Errorf("chat template: %s", shorten(oneLine(err.Error())))
	}
	return out.String(), nil
}

// limited is a string builder that refuses more than maxRendered bytes.
type limited struct{ strings.Builder }

var _ io.Writer = (*limited)(nil)

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxRendered {
		return 0, fmt.Errorf("the rendered text is longer than %d bytes", maxRendered)
	}
	return l.Builder.Write(p)
}

// environment is gonja's default with our tojson; it has no access to files.
func environment() *exec.Environment {
	filters := exec.NewFilterSet(map[string]exec.FilterFunction{}).Update(builtins.Filters)
	if err := filters.Replace("tojson", toJSON); err != nil {
		panic(err) // the library always has one
	}
	return &exec.Environment{
		Context:           exec.EmptyContext().Update(gonja.DefaultContext).Update(exec.NewContext(map[string]any{"range": pyRange})),
		Filters:           filters,
		Tests:             builtins.Tests,
		ControlStructures: builtins.ControlStructures,
		Methods:           methods(),
	}
}

// toJSON writes a value as Python's json.dumps(ensure_ascii=False) does: ", " and ": " between parts, no HTML escapes.
func toJSON(_ *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	indent := params.GetKeywordArgument("indent", nil)
	if indent != nil && indent.IsInteger() {
		enc.SetIndent("", strings.Repeat(" ", max(0, min(indent.Integer(), 16))))
	}
	if err := enc.Encode(in.ToGoSimpleType(false)); err != nil {
		return exec.AsValue(fmt.Errorf("tojson: %w", err))
	}
	text := strings.TrimSuffix(b.String(), "\n")
	if indent == nil || !indent.IsInteger() {
		text = spaceJSON(text)
	}
	return exec.AsSafeValue(text)
}

// spaceJSON puts a space after every comma and colon outside strings.
func spaceJSON(s string) string {
	var b strings.Builder
	inside, escaped := false, false
	for i := range len(s) {
		b.WriteByte(s[i])
		switch {
		case escaped:
			escaped = false
		case inside && s[i] == '\\':
			escaped = true
		case s[i] == '"':
			inside = !inside
		case !inside && (s[i] == ',' || s[i] == ':'):
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// TemplateFromFiles returns the template source among a model's files ("" where there is none): chat_template.jinja, or
// "chat_template" in tokenizer_config.json (a string, or the entry named "default" of a list).
func TemplateFromFiles(files map[string][]byte) (string, error) {
	if content, ok := files[templateFile]; ok {
		return string(content), nil
	}
	fields, err := object(files, tokenizerConf)
	if err != nil {
		return "", err
	}
	raw := fields["chat_template"]
	if absent(raw) {
		return "", nil
	}
	var src string
	if json.Unmarshal(raw, &src) == nil {
		return src, nil
	}
	var list []struct{ Name, Template string }
	if err := json.Unmarshal(raw, &list); err != nil {
		return "", fmt.Errorf("%s: chat_template: want a string or a list of {name, template}", tokenizerConf)
	}
	var names []string
	for _, entry := range list {
		if entry.Name == "default" {
			return entry.Template, nil
		}
		names = append(names, entry.Name)
	}
	return "", fmt.Errorf("%s: chat_template: none of the templates is named \"default\" (found: %s)", tokenizerConf, strings.Join(names, ", "))
}
