import uuid

from django.db import models
from django.db.models import Q


class Author(models.Model):
    name = models.CharField(max_length=50, unique=True, db_index=True)
    born = models.DateField(null=True)


class Book(models.Model):
    title = models.CharField(max_length=100)
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    price = models.DecimalField(max_digits=8, decimal_places=2)
    key = models.UUIDField(default=uuid.uuid4)
    at = models.DateTimeField(auto_now_add=True)
    length = models.DurationField(null=True)
    data = models.JSONField(default=dict)
    raw = models.BinaryField(null=True)
    ok = models.BooleanField(default=True)
    rating = models.FloatField(null=True)
    ip = models.GenericIPAddressField(null=True)
    at_time = models.TimeField(null=True)
    tags = models.ManyToManyField("Tag")

    class Meta:
        constraints = [models.CheckConstraint(check=Q(price__gte=0), name="price_ok"), models.UniqueConstraint(fields=["author", "title"], name="one_title")]
        indexes = [models.Index(fields=["-price", "title"], name="by_price"), models.Index(fields=["rating"], condition=Q(ok=True), name="by_rating")]


class Tag(models.Model):
    name = models.SlugField(unique=True)
