"""Train a tiny chat model that answers given requests as the stand-in did, so a real server has a right answer.

    python benchmarks/servers/chat_model.py EXCHANGES.json FOLDER

EXCHANGES.json: a list of [messages, answer]; the model learns them by heart. `transformers serve FOLDER` serves it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIALS = ["<unk>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message.role + '|> ' + message.content + ' </s> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SIZE, STEPS, BATCH = 64, 3000, 32


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Whole words, with the punctuation at them."""
    words = sorted({word for text in texts for word in text.split()})
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys([*SPECIALS, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "</s>", "additional_special_tokens": SPECIALS[2:]}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=2048, clean_up_tokenization_spaces=False, **names
    )
    fast.chat_template = TEMPLATE
    return fast


def make_model(num_words: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=num_words, hidden_size=SIZE, intermediate_size=2 * SIZE, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=2048, bos_token_id=None, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=1, do_sample=False)
    return model


def learn(exchanges: list[tuple[list[dict], str]]) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model and its tokenizer, once every answer is right."""
    texts = [text for messages, answer in exchanges for text in (answer, *(m["content"] for m in messages))]
    tokenizer = make_tokenizer(texts)
    model = make_model(len(tokenizer))
    rows = []
    for messages, answer in exchanges:
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids, reply = (tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, f"{answer} </s>"))
        rows.append((ids + reply, len(ids)))
    longest = max(len(ids) for ids, _ in rows)
    inputs = torch.tensor([ids + [1] * (longest - len(ids)) for ids, _ in rows])
    labels = torch.full_like(inputs, -100)
    for row, (ids, begin) in enumerate(rows):
        labels[row, begin : len(ids)] = inputs[row, begin : len(ids)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    wrong = torch.ones(len(rows))  # words of each row, when it was last seen
    for step in range(STEPS):
        part = torch.randperm(len(rows))[:BATCH]
        end = max(len(rows[row][0]) for row in part.tolist())
        logits = model(input_ids=inputs[part, :end]).logits[:, :-1]
        right = labels[part, 1:end]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), right.flatten())
        wrong[part] = ((logits.argmax(-1) != right) & (right != -100)).sum(1).float()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.4f}, {int(wrong.sum())} words wrong", file=sys.stderr)
        if not wrong.any() and loss < 0.02:
            return model, tokenizer
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    sys.exit(f"{int(wrong.sum())} words are still wrong after {STEPS} steps")


if __name__ == "__main__":
    model, tokenizer = learn(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    model.save_pretrained(sys.argv[2])
    tokenizer.save_pretrained(sys.argv[2])
