"""Tiny segmentation models with random weights, in transformers layout with the real names."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertTokenizerFast,
    CLIPTextConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Sam2Config,
    Sam2Model,
    Sam3Config,
    Sam3Model,
    SwinConfig,
)

from tests.tiny_checkpoints import clip_tokenizer

SAM2_SIDE = 128
OWL_SIDE = 64
SAM3_SIDE = 56


def sam2(folder: Path) -> Path:
    """Segment Anything 2 for squares of 128 pixels."""
    torch.manual_seed(0)
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [SAM2_SIDE, SAM2_SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [8, 4, 4, 2],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [7, 7],
    }
    side = SAM2_SIDE // 4
    config = Sam2Config(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[side // scale] * 2 for scale in (1, 2, 4)],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": SAM2_SIDE},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 32,
            "iou_head_hidden_dim": 32,
            "num_attention_heads": 2,
        },
    )
    Sam2Model(config).save_pretrained(folder)
    _describe(folder, {"size": {"height": SAM2_SIDE, "width": SAM2_SIDE}})
    return folder


def grounding_dino(folder: Path) -> Path:
    """Grounding DINO with a Swin backbone and BERT."""
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "the", "red", "circle", "dog"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
        ),
        num_queries=8,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=32,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _describe(folder, {"size": {"shortest_edge": 64, "longest_edge": 96}})
    return folder


def owlv2(folder: Path) -> Path:
    """OWLv2 for squares of 64 pixels."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer(folder)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": OWL_SIDE,
        "patch_size": 16,
    }
    config = Owlv2Config(text_config=text, vision_config=vision, projection_dim=16)
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _describe(folder, {"size": {"height": OWL_SIDE, "width": OWL_SIDE}})
    return folder


def sam3(folder: Path) -> Path:
    """Segment Anything 3 for squares of 56 pixels."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer(folder)
    small = {"hidden_size": 16, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    grid = SAM3_SIDE // 14
    config = Sam3Config(
        vision_config={
            "model_type": "sam3_vision_model",
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": SAM3_SIDE,
                "pretrain_image_size": SAM3_SIDE,
                "patch_size": 14,
                "window_size": 2,
                "global_attn_indexes": [1],
            },
            "fpn_hidden_size": 16,
            "backbone_feature_sizes": [[grid * scale] * 2 for scale in (4, 2, 1)],
        },
        text_config=CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            projection_dim=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ).to_dict(),
        geometry_encoder_config=small,
        detr_encoder_config=small,
        detr_decoder_config={**small, "num_queries": 6},
        mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2},
    )
    Sam3Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _describe(folder, {"size": {"height": SAM3_SIDE, "width": SAM3_SIDE}})
    return folder


def _describe(folder: Path, values: dict[str, object]) -> None:
    import json

    (folder / "preprocessor_config.json").write_text(json.dumps(values), encoding="utf-8")
