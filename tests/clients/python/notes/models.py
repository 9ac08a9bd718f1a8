from django.db import models


class Note(models.Model):
    title = models.CharField(max_length=120, unique=True)
    body = models.JSONField(default=dict)
    written = models.DateTimeField(auto_now_add=True)
