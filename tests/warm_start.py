"""Imported once by the server process of tests/processes.py: what every run of run_squad.py would import and build."""

import torch._dynamo
import torch.distributed
import torch.utils.tensorboard  # noqa: F401
from processes import TINY_BERT
from transformers.models.bert import modeling_bert, tokenization_bert  # noqa: F401

import run_squad  # noqa: F401
import squadlib.model.answering
import squadlib.training.fine_tuning
import squadlib.training.model_card  # noqa: F401
from squadlib.model.loading import load_config, load_model, load_tokenizer

config = load_config(str(TINY_BERT))
load_model(str(TINY_BERT), config)
load_tokenizer(str(TINY_BERT), config)
