"""The structs of sd.h and sd_tools.h that the bindings use, all fields of each. tests/test_library.py compares them with the
headers and lets a C compiler compare their places.

A struct with a `size` may have fewer fields than the library's: then what is missing has its default.
"""
import ctypes as C

S, P, I, U, Z, D, I32, I64, U64 = (C.c_char_p, C.c_void_p, C.c_int, C.c_uint, C.c_size_t, C.c_double, C.c_int32, C.c_int64,
                                   C.c_uint64)
DEFAULT = -2 ** 31                                              # SD_DEFAULT
PARTS = {"tokenizer": 1, "text": 2, "unet": 4, "vae": 8, "all": 15, "schedule": 16}   # SD_PART_*
RESIDENCY = {"map": 0, "stream": 1, "ram": 2}                   # SD_RESIDENCY_*
GEMM = {"own": 0, "openblas": 1}                                # SD_GEMM_*
TEXT, FILE, INT, BOOL, NUMBER, SEED, LIST, MARGINS, PAIR = range(9)   # SD_PARAM_*
F32, I64_TYPE = 0, 4                                            # SD_F32, SD_I64
KNOWN = {}   # by their names in C


def struct(name, /, **fields):
    """ctypes' structure for the C struct `name`."""
    KNOWN[name] = type(name, (C.Structure,), {"_fields_": list(fields.items())})
    return KNOWN[name]


options = struct("sd_options", size=Z, model=S, parts=U, threads=I, residency=I, precise=I, gemm=I, memory=U64, log=P, user=P,
                 unet=S, vae=S, text_encoder=S, text_encoder_2=S, tokenizer=S, config=S, ema=I, refiner=S, taesd=S,
                 taesd_preview_only=I, vae_memory=U64, device=S, cache=S)
model_info = struct("sd_model_info", path=S, prediction=S, sampler=S, width=I, height=I, scale=I, latent_channels=I,
                    context_dim=I, scaling_factor=D, kernels=S, gemm=S, threads=I, family=S, layout=S, prediction_why=S,
                    in_channels=I, pooled_dim=I, time_ids=I, class_labels=I, time_cond_dim=I, task=S, enlarges=I, steps=I,
                    guidance_scale=D, encoding_factor=D, device=S, text_encoders=I)
progress = struct("sd_progress", stage=S, done=I, total=I, seconds=D, steps=I)
traced = struct("sd_traced", name=S, dtype=I, nd=I, dim=I64 * 4, data=P)
image = struct("sd_image", width=I, height=I, channels=I, data=P)
sampling_params = struct("sd_sampling_params", steps=I, sampler=S, schedule=S, spacing=S, prediction=S, sigmas=P, timesteps=P,
                         sigma_count=I, timestep_count=I, order=I, steps_offset=I, set_alpha_to_one=I, clip_sample=I, eta=D,
                         s_churn=D, s_tmin=D, s_tmax=D, s_noise=D, denoising_start=D, denoising_end=D, refiner_at=D,
                         from_step=I, whole_timesteps=I, first_latents=S, reserved=U64 * 11)
guidance_params = struct("sd_guidance_params", scale=D, rescale=D, image_scale=D, reserved=U64 * 15)
edit_params = struct("sd_edit_params", init=P, mask=P, init_name=S, mask_name=S, strength=D, mask_blur=D, alpha_mask=I,
                     invert_mask=I, paste_back=I, inpaint_crop=I, outpaint=I * 4, resize=S, init_hash=S, depth=P,
                     depth_width=I, depth_height=I, depth_name=S, noise_level=I, strength_steps=S,
                     posterior=S, mask_rule=S, reserved=U64 * 8)
sdxl_params = struct("sd_sdxl_params", original_size=I * 2, crop=I * 2, target_size=I * 2, negative_original_size=I * 2,
                     negative_crop=I * 2, negative_target_size=I * 2, aesthetic_score=D, negative_aesthetic_score=D,
                     reserved=U64 * 16)
params = struct("sd_params", size=Z, prompt=S, negative_prompt=S, width=I, height=I, seed=U64, rng=S, sampler_rng=S,
                seed_per_image=I, batch=I, keep=I, clip_skip=I, noise=P, noise_count=Z, noise_name=S, copies=P,
                sampling=sampling_params, guidance=guidance_params, edit=edit_params, sdxl=sdxl_params, latents=P,
                latents_count=Z, latents_name=S, bytes=S, like=S)
param_info = struct("sd_param_info", key=S, group=S, type=I, offset=Z, count_offset=Z, least=D, most=D, initial=D, words=S,
                    option=S, letter=C.c_char, value=S, help=S, text_key=S)
tokens = struct("sd_tokens", id=I32 * 77, n=I, dropped=I)
unet_input = struct("sd_unet_input", size=Z, batch=I, h=I, w=I, sample=P, timestep=P, encoder_hidden_states=P, text_embeds=P,
                    time_ids=P, class_labels=P, timestep_cond=P)
sampler_info = struct("sd_sampler_info", name=S, diffusers=S, a1111=S, kdiffusion=S, paper=S, order=I, draws=I, eta=D,
                      comfyui=S, label=S)
inspect_options = struct("sd_inspect_options", size=Z, json=I, columns=I, metadata=I, tensors=S, values=I, hash=I, progress=P,
                         user=P)
compare_options = struct("sd_compare_options", size=Z, json=I, columns=I, all=I, progress=P, user=P, names=S,
                         calls=P, n_calls=I, rtol=D, atol=D, html=S, floor=S, injected=S)
inject_options = struct("sd_inject_options", size=Z, filter=S, names=S)

ON_TRACE = C.CFUNCTYPE(None, P, C.POINTER(traced))
ON_PROGRESS = C.CFUNCTYPE(None, P, C.POINTER(progress))
ON_LOG = C.CFUNCTYPE(None, P, I, S)
