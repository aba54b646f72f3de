package tokenizer

import "errors"

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// ChatTemplate renders messages as the text a chat model was trained on. Safe for concurrent use.
type ChatTemplate struct{ src string }

// ParseChatTemplate parses Jinja source. special gives the template's variables such as bos_token and eos_token.
func ParseChatTemplate(src string, special map[string]string) (*ChatTemplate, error) {
	return nil, errors.New("chat template: not built yet")
}

// Source returns the Jinja source.
func (c *ChatTemplate) Source() string { return c.src }

// Render returns the text of messages; addGenerationPrompt appends what opens the assistant's next turn.
func (c *ChatTemplate) Render(messages []Message, addGenerationPrompt bool) (string, error) {
	return "", errors.New("chat template: not built yet")
}

// TemplateFromFiles returns the template source among a model's files.
func TemplateFromFiles(files map[string][]byte) (string, error) { return "", nil }

// EncodeChat encodes a conversation; completion[i] says that ids[i] belongs to an assistant's answer.
func EncodeChat(t Tokenizer, c *ChatTemplate, messages []Message) (ids []int, completion []bool, err error) {
	return nil, nil, errors.New("chat template: not built yet")
}
