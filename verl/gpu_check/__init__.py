"""What a GPU gives this project, in ten minutes: ``python -m verl.gpu_check``."""
